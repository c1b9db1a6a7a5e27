//! Tells whether bytes are JSON in the canonical form of CRDT section 5.

/// Tells whether bytes are one canonical JSON value.
pub(super) fn is_canonical(bytes: &[u8]) -> bool {
    bytes.len() <= 8 << 20
        && std::str::from_utf8(bytes).is_ok_and(|text| value(text, 0).is_some_and(str::is_empty))
}

/// What follows the value that `text` begins with; `depth` is the number of levels around it.
fn value(text: &str, depth: usize) -> Option<&str> {
    match text.bytes().next()? {
        b'{' => members(text.strip_prefix('{')?, depth + 1),
        b'[' => elements(text.strip_prefix('[')?, depth + 1),
        b'"' => string(text).map(|(_, rest)| rest),
        b't' => text.strip_prefix("true"),
        b'f' => text.strip_prefix("false"),
        b'n' => text.strip_prefix("null"),
        _ => number(text),
    }
}

const LEVELS: usize = 128;

fn elements(mut text: &str, depth: usize) -> Option<&str> {
    if depth > LEVELS {
        return None;
    }
    if let Some(rest) = text.strip_prefix(']') {
        return Some(rest);
    }
    loop {
        text = value(text, depth)?;
        match text.strip_prefix(',') {
            Some(rest) => text = rest,
            None => return text.strip_prefix(']'),
        }
    }
}

fn members(mut text: &str, depth: usize) -> Option<&str> {
    if depth > LEVELS {
        return None;
    }
    if let Some(rest) = text.strip_prefix('}') {
        return Some(rest);
    }
    let mut last: Option<String> = None;
    loop {
        let (name, rest) = string(text)?;
        if last.is_some_and(|last| last >= name) {
            return None;
        }
        last = Some(name);
        text = value(rest.strip_prefix(':')?, depth)?;
        match text.strip_prefix(',') {
            Some(rest) => text = rest,
            None => return text.strip_prefix('}'),
        }
    }
}

/// The string that `text` begins with, without its escapes, and what follows it.
fn string(text: &str) -> Option<(String, &str)> {
    let body = text.strip_prefix('"')?;
    let (mut out, mut rest) = (String::new(), body);
    loop {
        let c = rest.chars().next()?;
        rest = rest.strip_prefix(c)?;
        match c {
            '"' => return Some((out, rest)),
            '\\' => {
                let (escaped, after) = escape(rest)?;
                out.push(escaped);
                rest = after;
            }
            c if c < ' ' => return None,
            c => out.push(c),
        }
    }
}

fn escape(text: &str) -> Option<(char, &str)> {
    let short = [
        ("\"", '"'),
        ("\\", '\\'),
        ("b", '\u{8}'),
        ("t", '\t'),
        ("n", '\n'),
        ("f", '\u{c}'),
        ("r", '\r'),
    ];
    for (letter, meant) in short {
        if let Some(rest) = text.strip_prefix(letter) {
            return Some((meant, rest));
        }
    }
    let (digits, rest) = text.strip_prefix("u00")?.split_at_checked(2)?;
    let plain = digits.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
    let meant = char::from(u8::from_str_radix(digits, 16).ok().filter(|_| plain)?);
    let longer = meant >= ' ' || short.iter().any(|(_, known)| *known == meant);
    (!longer).then_some((meant, rest))
}

fn number(text: &str) -> Option<&str> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let after = |text: &'_ str| -> Option<usize> { Some(digits(text)).filter(|n| *n > 0) };
    let mut rest = text.strip_prefix('-').unwrap_or(text);
    rest = match rest.strip_prefix('0') {
        Some(rest) => rest,
        None => rest.get(after(rest)?..)?,
    };
    if let Some(fraction) = rest.strip_prefix('.') {
        rest = fraction.get(after(fraction)?..)?;
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        rest = exponent.get(after(exponent)?..)?;
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdelta_engine::crdt;

    #[test]
    fn the_engine_calls_the_same_bytes_canonical() {
        let mut texts: Vec<String> = [
            "",
            "0",
            "-0",
            "01",
            "1.",
            "1.0",
            "1e5",
            "1E+5",
            "1e",
            "-",
            "true",
            "tru",
            "null",
            " 1",
            "[]",
            "[1,2]",
            "[1, 2]",
            "[1,]",
            "{}",
            "{\"a\":1}",
            "{\"a\":1,\"a\":2}",
            "{\"b\":1,\"a\":2}",
            "{\"a\":1,\"b\":{\"c\":[]}}",
            "\"\\n\"",
            "\"\\u000a\"",
            "\"\\u0001\"",
            "\"\\u001F\"",
            "\"\\u001f\"",
            "\"\\/\"",
            "\"é\"",
            "\"\\u00e9\"",
            "\"\t\"",
            "\"a",
            "\"\\ud800\"",
            "1 ",
            "{\"é\":1,\"z\":1}",
            "{\"z\":1,\"é\":1}",
        ]
        .map(str::to_owned)
        .to_vec();
        for depth in [127, 128, 129] {
            texts.push("[".repeat(depth) + &"]".repeat(depth));
        }
        for text in texts {
            let (ours, theirs) =
                (is_canonical(text.as_bytes()), crdt::is_canonical(text.as_bytes()));
            assert_eq!(ours, theirs, "{text}");
        }
    }
}
