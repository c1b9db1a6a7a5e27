//! Numbers as they are written: compared digit by digit, summed without loss where they are whole.

use std::cmp::Ordering;

use serde_json::{Number, Value};

/// Compares two numbers exactly, whatever their length.
pub(super) fn compare(a: &Number, b: &Number) -> Ordering {
    let (a, b) = (Decimal::of(a.as_str()), Decimal::of(b.as_str()));
    match (a.sign(), b.sign()) {
        (a_sign, b_sign) if a_sign != b_sign => a_sign.cmp(&b_sign),
        (1, _) => a.compare_size(&b),
        (-1, _) => b.compare_size(&a),
        _ => Ordering::Equal,
    }
}

/// A decimal number, `0.DIGITS * 10^point`.
#[derive(Debug)]
struct Decimal<'a> {
    negative: bool,
    /// From the first digit that is not zero on; may hold the decimal point.
    digits: &'a str,
    point: i64,
}

impl<'a> Decimal<'a> {
    /// Reads the text of a JSON number.
    fn of(text: &'a str) -> Self {
        let (negative, text) = match text.strip_prefix('-') {
            Some(text) => (true, text),
            None => (false, text),
        };
        let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let whole = digits.split('.').next().unwrap_or_default().len();
        let significant = digits.trim_start_matches(['0', '.']);
        let skipped = digits.len() - significant.len();
        // The point is no digit; it was passed over if no whole digit counts.
        let zeros = skipped - usize::from(skipped > whole);
        // An exponent that fits no i64 is as large as can be told apart.
        let beyond = if exponent.starts_with('-') { i64::MIN } else { i64::MAX };
        let exponent: i64 = exponent.parse().unwrap_or(beyond);
        let count = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
        let point = exponent.saturating_add(count(whole)).saturating_sub(count(zeros));
        Self { negative, digits: significant, point }
    }

    fn sign(&self) -> i8 {
        match (self.digits.is_empty(), self.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        }
    }

    fn compare_size(&self, other: &Self) -> Ordering {
        let digits =
            |of: &Self| of.digits.bytes().filter(|byte| *byte != b'.').collect::<Vec<u8>>();
        self.point.cmp(&other.point).then_with(|| {
            let (a, b) = (digits(self), digits(other));
            let length = a.len().max(b.len());
            let padded =
                |digits: Vec<u8>| digits.into_iter().chain(std::iter::repeat(b'0')).take(length);
            padded(a).cmp(padded(b))
        })
    }
}

/// A sum of numbers.
///
/// It is exact while every number is whole and all sums have at most 38 digits, and an IEEE 754
/// double from the first other number on, with the compensation of Neumaier (1974).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Sum {
    /// What whole numbers sum to.
    Whole(i128),
    /// What others do, and what was lost in rounding so far.
    Real(f64, f64),
}

impl Sum {
    /// Adds a number.
    pub(super) fn add(&mut self, number: &Number) {
        let text = number.as_str();
        if let (Self::Whole(sum), Ok(by)) = (*self, text.parse::<i128>())
            && let Some(sum) = sum.checked_add(by)
        {
            *self = Self::Whole(sum);
            return;
        }
        let (sum, lost) = match *self {
            #[expect(clippy::cast_precision_loss, reason = "what follows is not exact")]
            Self::Whole(sum) => (sum as f64, 0.0),
            Self::Real(sum, lost) => (sum, lost),
        };
        let by: f64 = text.parse().unwrap_or(f64::NAN);
        let next = sum + by;
        let lost = lost + if sum.abs() >= by.abs() { (sum - next) + by } else { (by - next) + sum };
        *self = Self::Real(next, lost);
    }

    /// Returns it as JSON; null where it is too large for a double.
    pub(super) fn json(self) -> Value {
        match self {
            Self::Whole(sum) => whole(sum),
            Self::Real(sum, lost) => real(sum + lost),
        }
    }

    /// Returns the mean of so many numbers.
    pub(super) fn mean(self, count: u64) -> Value {
        if count == 0 {
            return Value::Null;
        }
        #[expect(clippy::cast_precision_loss, reason = "a mean is not exact")]
        match self {
            Self::Whole(sum) => {
                let (count, by) = (i128::from(count), count as f64);
                real((sum / count) as f64 + (sum % count) as f64 / by)
            }
            Self::Real(sum, lost) => real((sum + lost) / count as f64),
        }
    }
}

fn whole(sum: i128) -> Value {
    Number::from_i128(sum).map_or(Value::Null, Value::Number)
}

fn real(value: f64) -> Value {
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}
