//! Points in history as people write them, and times as they read them.
//!
//! A point is an event id, its first digits, `tag:NAME`, an RFC 3339 time, or an age such as `5m`.
//! Times come out in RFC 3339 with milliseconds, in UTC.

use jiff::Timestamp;

use super::problem::Problem;
use crate::engine::base::{EventId, Hlc, WallTime};
use crate::engine::store::Point;

/// Fewest hexadecimal digits that name an event.
const DIGITS_MIN: usize = 8;

/// Reads a point; ages count back from `now`.
///
/// # Errors
/// A usage problem that says how points are written.
pub(super) fn parse(text: &str, now: WallTime) -> Result<Point, Problem> {
    let text = text.trim();
    if let Some(name) = text.strip_prefix("tag:") {
        return match name {
            "" => Err(Problem::usage("the tag has no name").hint("Write tag:NAME")),
            name => Ok(Point::Tag(name.to_owned())),
        };
    }
    if let Ok(id) = text.parse::<EventId>() {
        return Ok(Point::Event(id));
    }
    if is_digits(text) {
        return Ok(Point::Prefix(text.to_ascii_lowercase()));
    }
    if let Some(age_ms) = age_ms(text) {
        return Ok(Point::Time(WallTime(now.0.saturating_sub(age_ms))));
    }
    if let Some(time) = time(text) {
        return Ok(Point::Time(time));
    }
    Err(Problem::usage(format!("{text:?} is no point in history")).hint(
        "A point is an event id or its first 8 or more digits, tag:NAME, a time such as \
         2026-01-31T12:00:00Z, or an age such as 5m",
    ))
}

/// Reads a time to come: an RFC 3339 time, or a span from `now` on, such as `24h`.
///
/// # Errors
/// A usage problem that says how it is written.
pub(super) fn to_come(text: &str, now: WallTime) -> Result<WallTime, Problem> {
    let text = text.trim();
    let span = age_ms(text).filter(|_| !text.starts_with('-'));
    let after = span.map(|ms| WallTime(now.0.saturating_add(ms)));
    after.or_else(|| time(text)).filter(|end| *end > now).ok_or_else(|| {
        Problem::usage(format!("{text:?} is no time to come"))
            .hint("Write a time such as 2027-01-31T12:00:00Z, or a span such as 24h or 30d")
    })
}

/// Tells whether `text` is the beginning of an event id, with or without an index.
fn is_digits(text: &str) -> bool {
    let (digits, index) = text.split_once('.').unwrap_or((text, "0"));
    (DIGITS_MIN..=64).contains(&digits.len())
        && digits.bytes().all(|c| c.is_ascii_hexdigit())
        && !index.is_empty()
        && index.bytes().all(|c| c.is_ascii_digit())
}

/// Reads `90s`, `5m`, `-5m`, `2h`, `3d` or `1w` as milliseconds.
fn age_ms(text: &str) -> Option<u64> {
    let text = text.strip_prefix('-').unwrap_or(text);
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let factor: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 604_800_000,
        _ => return None,
    };
    // An age beyond all numbers is the beginning of time.
    let number = number.parse::<u64>().ok().or((digits > 0).then_some(u64::MAX))?;
    Some(number.saturating_mul(factor))
}

/// Reads an RFC 3339 time; what is below a millisecond is cut.
fn time(text: &str) -> Option<WallTime> {
    let is_date = text.get(..10)?.bytes().all(|c| c.is_ascii_digit() || c == b'-');
    // In a query an unencoded `+` of the offset has become a space.
    let text = match text.rsplit_once(' ') {
        Some((front, offset)) if front.contains(['T', 't']) => format!("{front}+{offset}"),
        _ => text.to_owned(),
    };
    let time: Timestamp = text.parse().ok().filter(|_| is_date)?;
    let ms = time.as_nanosecond().div_euclid(1_000_000);
    // Before 1970 nothing was written.
    Some(WallTime(u64::try_from(ms).unwrap_or(0)))
}

/// Writes the time of a stamp.
pub(super) fn time_text(hlc: Hlc) -> String {
    wall_text(hlc.wall())
}

/// Writes a time; one that has no name in RFC 3339 is the last that has.
pub(super) fn wall_text(wall: WallTime) -> String {
    let ms = i64::try_from(wall.0).unwrap_or(i64::MAX);
    let time = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
    format!("{time:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::base::CommitId;

    const NOW: WallTime = WallTime(1_767_225_600_000);

    fn at(text: &str) -> WallTime {
        match parse(text, NOW) {
            Ok(Point::Time(time)) => time,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn ages_count_back_from_now() {
        for (text, ms) in [
            ("5m", 300_000),
            ("-5m", 300_000),
            ("90s", 90_000),
            ("2h", 7_200_000),
            ("3d", 259_200_000),
            ("1w", 604_800_000),
            ("250ms", 250),
            ("0s", 0),
        ] {
            assert_eq!(at(text), WallTime(NOW.0 - ms), "{text}");
        }
        // Eight digits or more, `d` among them, may be an event; a minus makes it an age.
        assert_eq!(at("-99999999999999999999999d"), WallTime(0));
    }

    #[test]
    fn times_have_an_offset_and_are_read_to_the_millisecond() {
        assert_eq!(at("2026-01-01T00:00:00Z"), NOW);
        assert_eq!(at("2026-01-01T01:00:00+01:00"), NOW);
        assert_eq!(at("2026-01-01T01:00:00 01:00"), NOW);
        assert_eq!(at("2026-01-01T00:00:00.0019Z"), WallTime(NOW.0 + 1));
        assert_eq!(at("1969-12-31T23:59:59Z"), WallTime(0));
    }

    #[test]
    fn events_are_named_whole_or_by_eight_digits() {
        let id = EventId { commit: CommitId([0xab; 32]), index: 3 };
        assert_eq!(parse(&id.to_string(), NOW).unwrap(), Point::Event(id));
        assert_eq!(parse("ABCDEF12", NOW).unwrap(), Point::Prefix("abcdef12".to_owned()));
        assert_eq!(parse("12345678", NOW).unwrap(), Point::Prefix("12345678".to_owned()));
        assert_eq!(parse("abcdef12.7", NOW).unwrap(), Point::Prefix("abcdef12.7".to_owned()));
    }

    #[test]
    fn tags_are_named_with_a_prefix() {
        assert_eq!(parse("tag:v 1", NOW).unwrap(), Point::Tag("v 1".to_owned()));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "now", "5", "5x", "-", "abcdef1", "tag:", "2026-01-01", "12345678.", "é"]
        {
            assert!(parse(text, NOW).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_written_with_three_digits_in_utc() {
        assert_eq!(wall_text(NOW), "2026-01-01T00:00:00.000Z");
        assert_eq!(wall_text(WallTime(NOW.0 + 45)), "2026-01-01T00:00:00.045Z");
        assert_eq!(wall_text(WallTime(0)), "1970-01-01T00:00:00.000Z");
        assert!(wall_text(WallTime(u64::MAX)).starts_with("9999-12-"));
        assert_eq!(time_text(Hlc::from_wall(NOW)), "2026-01-01T00:00:00.000Z");
    }
}
