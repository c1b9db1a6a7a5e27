//! What VALUE, NUMBER and `-` mean on the command line.
//!
//! VALUE is JSON where it parses as JSON, else text. The text of JSON goes on as it is: digits,
//! spaces and the order of members are the engine's business, which stores one canonical form.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;

use serde_json::value::RawValue;

use super::failure::{Exit, Failure};
use kdelta::engine::limits::VALUE_BYTES_MAX;

/// Most bytes read from stdin for one value: JSON may shrink when it is made canonical.
const STDIN_BYTES_MAX: usize = 4 * VALUE_BYTES_MAX;

/// How VALUE is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// JSON if it parses, else text.
    Guess,
    /// Text, whatever it looks like.
    Text,
    /// Bytes, untouched.
    Raw,
}

/// A value on its way into a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    /// The text of a JSON value.
    Json(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// Reads the argument `value`; `-` reads `stdin`.
pub(crate) fn input(
    value: &OsStr,
    reading: Reading,
    stdin: &mut dyn Read,
) -> Result<Input, Failure> {
    if value == "-" {
        return from_bytes(read_all(stdin)?, reading, true);
    }
    from_bytes(value.as_bytes().to_vec(), reading, false)
}

/// Reads an argument that cannot be bytes: a set element, or the value of a map's field.
pub(crate) fn json(
    value: &OsStr,
    reading: Reading,
    stdin: Option<&mut dyn Read>,
) -> Result<String, Failure> {
    let input = match stdin {
        Some(stdin) => input(value, reading, stdin)?,
        None => from_bytes(value.as_bytes().to_vec(), reading, false)?,
    };
    match input {
        Input::Json(text) => Ok(text),
        Input::Bytes(_) => Err(Failure::usage("bytes cannot stand inside a set or a map")
            .hint("Leave --raw out, or encode them as text")),
    }
}

fn from_bytes(bytes: Vec<u8>, reading: Reading, piped: bool) -> Result<Input, Failure> {
    if reading == Reading::Raw {
        return Ok(Input::Bytes(bytes));
    }
    let mut text = String::from_utf8(bytes).map_err(|_| {
        Failure::usage("the value is neither JSON nor UTF-8 text").hint("Store bytes with --raw")
    })?;
    if reading == Reading::Guess && serde_json::from_str::<&RawValue>(&text).is_ok() {
        return Ok(Input::Json(text.trim_matches([' ', '\t', '\n', '\r']).to_owned()));
    }
    if piped && text.ends_with('\n') {
        text.pop();
    }
    Ok(Input::Json(serde_json::Value::String(text).to_string()))
}

fn read_all(stdin: &mut dyn Read) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let most = u64::try_from(STDIN_BYTES_MAX).unwrap_or(u64::MAX);
    stdin
        .take(most.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::other(format!("cannot read stdin: {error}")))?;
    if bytes.len() > STDIN_BYTES_MAX {
        let message = format!("a value has at most {} MiB", VALUE_BYTES_MAX >> 20);
        return Err(Failure::new("limit", Exit::Limit, message)
            .hint("Split it over several keys, or keep the file elsewhere and its hash here"));
    }
    Ok(bytes)
}

/// Reads a size such as `512MiB`, `64MB`, `2GiB` or a number of bytes.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.get(digits.len()..).unwrap_or_default();
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(format!("{text:?} is no size: write 512MiB, 64MB or a number of bytes")),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("{text:?} is no size: write 512MiB, 64MB or a number of bytes"))?;
    number.checked_mul(factor).ok_or_else(|| format!("{text} is more than any machine has"))
}

/// Reads a time span such as `30s`, `500ms`, `24h`, `7d`, or a number of seconds; in milliseconds.
pub(crate) fn span_ms(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.get(digits.len()..).unwrap_or_default();
    let factor: u64 = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 604_800_000,
        _ => return Err(format!("{text:?} is no time span: write 500ms, 30s, 5m, 24h or 7d")),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("{text:?} is no time span: write 500ms, 30s, 5m, 24h or 7d"))?;
    number.checked_mul(factor).ok_or_else(|| format!("{text} is too long a time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arg(text: &str, reading: Reading) -> Input {
        input(OsStr::new(text), reading, &mut std::io::empty()).unwrap()
    }

    fn piped(bytes: &[u8], reading: Reading) -> Input {
        input(OsStr::new("-"), reading, &mut &*bytes).unwrap()
    }

    fn text(text: &str) -> Input {
        Input::Json(text.to_owned())
    }

    #[test]
    fn json_is_json_and_the_rest_is_text() {
        assert_eq!(arg("5", Reading::Guess), text("5"));
        assert_eq!(arg("-5", Reading::Guess), text("-5"));
        assert_eq!(arg("9007199254740993", Reading::Guess), text("9007199254740993"));
        assert_eq!(arg("1.0", Reading::Guess), text("1.0"));
        assert_eq!(arg(r#" {"b":1, "a":2} "#, Reading::Guess), text(r#"{"b":1, "a":2}"#));
        assert_eq!(arg("blue", Reading::Guess), text("\"blue\""));
        assert_eq!(arg("\"blue\"", Reading::Guess), text("\"blue\""));
        assert_eq!(arg("", Reading::Guess), text("\"\""));
        assert_eq!(arg("NaN", Reading::Guess), text("\"NaN\""));
        assert_eq!(arg("01", Reading::Guess), text("\"01\""));
        assert_eq!(arg("{\"a\"", Reading::Guess), text(r#""{\"a\"""#));
    }

    #[test]
    fn a_flag_overrules_what_it_looks_like() {
        assert_eq!(arg("5", Reading::Text), text("\"5\""));
        assert_eq!(arg("5", Reading::Raw), Input::Bytes(b"5".to_vec()));
    }

    #[test]
    fn piped_text_loses_one_newline_and_bytes_lose_nothing() {
        assert_eq!(piped(b"hello\n\n", Reading::Guess), text(r#""hello\n""#));
        assert_eq!(piped(b"5\n", Reading::Guess), text("5"));
        assert_eq!(piped(b"5\n", Reading::Text), text("\"5\""));
        assert_eq!(piped(b"\xff\n", Reading::Raw), Input::Bytes(b"\xff\n".to_vec()));
        let refused = input(OsStr::new("-"), Reading::Guess, &mut &b"\xff"[..]).unwrap_err();
        assert!(refused.hint.contains("--raw"));
    }

    #[test]
    fn deep_json_is_still_json() {
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        assert_eq!(arg(&deep, Reading::Guess), text(&deep));
    }

    #[test]
    fn sizes_and_spans_have_units() {
        assert_eq!(size("512MiB"), Ok(512 << 20));
        assert_eq!(size("64mb"), Ok(64_000_000));
        assert_eq!(size("7"), Ok(7));
        assert!(size("1e3").is_err() && size("-1").is_err() && size("99999999TiB").is_err());
        assert_eq!(span_ms("24h"), Ok(86_400_000));
        assert_eq!(span_ms("30"), Ok(30_000));
        assert_eq!(span_ms("0"), Ok(0));
        assert!(span_ms("soon").is_err());
    }
}
