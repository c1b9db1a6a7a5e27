//! Facts about canonical JSON.

use super::*;
use proptest::prelude::*;

fn text(input: &str) -> String {
    String::from_utf8(canonical(input.as_bytes()).unwrap()).unwrap()
}

fn reason(input: &str) -> (usize, JsonReason) {
    let error = canonical(input.as_bytes()).unwrap_err();
    (error.offset, error.reason)
}

#[test]
fn members_are_sorted_by_their_bytes_and_space_goes() {
    assert_eq!(text(" { \"b\" : [ 1 , { } ] , \"a\" :\tnull } "), r#"{"a":null,"b":[1,{}]}"#);
    // U+FF61 sorts before U+1F600 by UTF-8, after it by UTF-16.
    assert_eq!(text("{\"😀\":1,\"｡\":2}"), "{\"｡\":2,\"😀\":1}");
    // By what the name means, not by how it is escaped: U+000A is below a space.
    assert_eq!(text(r#"{" ":1,"\n":2,"\u0000":3}"#), r#"{"\u0000":3,"\n":2," ":1}"#);
    assert_eq!(text(r#"{"b":{"d":1,"c":2},"a":0}"#), r#"{"a":0,"b":{"c":2,"d":1}}"#);
}

#[test]
fn strings_are_escaped_as_little_as_may_be() {
    assert_eq!(text(r#""\u0041\/\u00e9\ud83d\ude00\u007f""#), "\"A/é😀\u{7f}\"");
    assert_eq!(
        text(r#""\u0008\u000C\u000a\u000d\u0009\u001F\u0022\u005c""#),
        r#""\b\f\n\r\t\u001f\"\\""#
    );
    assert_eq!(Json::string("a\"\n\u{1}é").unwrap().as_str(), r#""a\"\n\u0001é""#);
}

#[test]
fn the_text_of_numbers_is_left_alone() {
    for number in ["0", "-0", "1.0", "1.00", "9007199254740993", "1e400", "-1.5E-07", "1e+2"] {
        assert_eq!(text(number), number);
    }
    let forty = "1234567890".repeat(4);
    assert_eq!(text(&forty), forty);
    for bad in ["-", "1.", "1e", "1e+", "-a", "1.e1"] {
        assert_eq!(reason(bad), (0, JsonReason::Number), "{bad}");
    }
    for bad in ["01", "1.5.2", "0x1", "1 2"] {
        assert!(matches!(reason(bad).1, JsonReason::Expected(_)), "{bad}");
    }
}

#[test]
fn errors_name_the_place_and_the_reason() {
    assert_eq!(reason(""), (0, JsonReason::Expected("a value")));
    assert_eq!(reason("[1,]"), (3, JsonReason::Expected("a value")));
    assert_eq!(reason("[1 2]"), (3, JsonReason::Expected("`,` or `]`")));
    assert_eq!(reason("{\"a\":1,}"), (7, JsonReason::Expected("a member name")));
    assert_eq!(reason("{\"a\" 1}"), (5, JsonReason::Expected("`:`")));
    assert_eq!(reason("tru"), (0, JsonReason::Expected("true")));
    assert_eq!(reason("\"ab"), (3, JsonReason::Expected("`\"`")));
    assert_eq!(reason("\"a\nb\""), (2, JsonReason::Control));
    assert_eq!(reason(r#""\x""#), (1, JsonReason::Escape));
    assert_eq!(reason(r#""\u12g4""#), (1, JsonReason::Escape));
    assert_eq!(reason(r#"{"b":1,"a":2,"\u0062":3}"#), (13, JsonReason::Duplicate));
    for lone in [r#""\ud800""#, r#""\ud800\u0041""#, r#""\udc00""#, r#""\ud800\ud800""#] {
        assert_eq!(reason(lone), (1, JsonReason::Surrogate), "{lone}");
    }
    assert_eq!(canonical(b"\"\xff\"").unwrap_err().reason, JsonReason::Utf8);
    assert_eq!(reason("\u{feff}1"), (0, JsonReason::Expected("a value")));
}

#[test]
fn nesting_and_size_are_bounded() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(is_canonical(text(&nested(JSON_DEPTH_MAX)).as_bytes()));
    assert_eq!(reason(&nested(JSON_DEPTH_MAX + 1)), (JSON_DEPTH_MAX, JsonReason::Depth));
    assert!(!is_canonical(nested(JSON_DEPTH_MAX + 1).as_bytes()));
    let string = |len: usize| format!("\"{}\"", "a".repeat(len - 2));
    assert!(canonical(string(VALUE_BYTES_MAX).as_bytes()).is_ok());
    assert_eq!(reason(&string(VALUE_BYTES_MAX + 1)).1, JsonReason::TooLarge);
    assert!(!is_canonical(string(VALUE_BYTES_MAX + 1).as_bytes()));
    assert!(Json::string(&"a".repeat(VALUE_BYTES_MAX)).is_err());
    // White space does not count, within reason.
    assert_eq!(text(&format!("{}1", " ".repeat(VALUE_BYTES_MAX))), "1");
    assert_eq!(reason(&" ".repeat(JSON_TEXT_BYTES_MAX + 1)).1, JsonReason::TooLarge);
}

fn value() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let name = "[a-c\\\\\"\n\u{1}é😀 /]{0,3}";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9).prop_map(Value::from),
        name.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((name, inner), 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn the_meaning_stays_and_the_form_is_fixed(value in value()) {
        let pretty = serde_json::to_vec_pretty(&value).unwrap();
        let first = canonical(&pretty).unwrap();
        // Both sides are read by serde, for it may round the last digit of a float.
        let meaning = |text| serde_json::from_slice::<serde_json::Value>(text).unwrap();
        prop_assert_eq!(meaning(&first), meaning(&pretty));
        prop_assert_eq!(&canonical(&first).unwrap(), &first);
        prop_assert!(is_canonical(&first));
    }

    /// The alphabet makes text that is nearly JSON, so that both answers are common.
    #[test]
    fn what_is_accepted_is_what_serde_accepts(
        text in r#"(\{"[ab]":|[\[\],:"0-9eE.+-]|\\[nu/"]|0[01][0-9a-f]|"[ab\n]"|true|null| |\{|\}){0,12}"#,
    ) {
        let ours = canonical(text.as_bytes());
        let theirs = serde_json::from_str::<serde_json::Value>(&text);
        match (&ours, &theirs) {
            (Ok(bytes), Ok(value)) => {
                let read: serde_json::Value = serde_json::from_slice(bytes).unwrap();
                prop_assert_eq!(&read, value);
            }
            (Err(error), Ok(_)) => prop_assert_eq!(error.reason, JsonReason::Duplicate),
            (Ok(_), Err(error)) => prop_assert!(error.to_string().contains("out of range")),
            (Err(_), Err(_)) => {}
        }
        let same = ours.is_ok_and(|bytes| bytes == text.as_bytes());
        prop_assert_eq!(is_canonical(text.as_bytes()), same);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        let same = canonical(&bytes).is_ok_and(|form| form == bytes);
        prop_assert_eq!(is_canonical(&bytes), same);
    }

    #[test]
    fn a_changed_byte_is_noticed(value in value(), place: prop::sample::Index, byte: u8) {
        let mut bytes = canonical(&serde_json::to_vec(&value).unwrap()).unwrap();
        let at = place.index(bytes.len());
        bytes[at] = byte;
        let same = canonical(&bytes).is_ok_and(|form| form == bytes);
        prop_assert_eq!(is_canonical(&bytes), same);
    }
}
