//! Ops as JSON: one grammar for single ops, batches and lines of an import.
//!
//! Members that an op does not know are refused by name, and so are members given twice. Values
//! travel as the text that was given, so no digit of a number changes on the way in.

use std::fmt;
use std::sync::Arc;

use data_encoding::BASE64;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::problem::{Kind, Problem};
use super::request::{checked_request_id, expectation};
use crate::engine::base::Key;
use crate::engine::crdt::{Json, JsonReason, Op};
use crate::engine::limits;
use crate::engine::store::{Expect, KeyOp};

/// What becomes one commit: a line of an import, or the body of a batch.
#[derive(Debug, Clone, Default)]
pub(super) struct Line {
    /// What is done, in order.
    pub(super) ops: Vec<KeyOp>,
    /// The name of a tag that is made right after it.
    pub(super) tag: Option<String>,
    /// Canonical JSON for the history.
    pub(super) note: Option<Arc<[u8]>>,
    /// Names the request.
    pub(super) request_id: Option<Vec<u8>>,
}

/// Reads a line: one op, or `{"batch":[op,…]}`; both with `tag`, `note` and `request_id` if wanted.
///
/// # Errors
/// A usage problem that names the op and the member.
pub(super) fn line(text: &[u8]) -> Result<Line, Problem> {
    let mut members = Members::of(text)?;
    let mut line = members.about()?;
    match members.take("batch") {
        None => line.ops.push(members.key_op(None)?),
        Some(batch) => {
            let batch: Vec<&RawValue> = serde_json::from_str(batch.get())
                .map_err(|_| wrong("batch", "an array of ops", batch))?;
            members.nothing_left("a batch", "batch, tag, note, request_id")?;
            line.ops.reserve(batch.len());
            for (at, op) in batch.into_iter().enumerate() {
                let op = Members::of(op.get().as_bytes()).and_then(|mut op| op.key_op(None));
                line.ops.push(op.map_err(|problem| within(&format!("op {}", at + 1), problem))?);
            }
        }
    }
    Ok(line)
}

/// Reads the body of an op whose key is in the path.
///
/// # Errors
/// A usage problem that names the member.
pub(super) fn op_on(key: &Key, text: &[u8]) -> Result<Line, Problem> {
    let mut members = Members::of(text)?;
    let mut line = members.about()?;
    line.ops.push(members.key_op(Some(key))?);
    Ok(line)
}

/// Says where in a larger request a problem lies.
pub(super) fn within(place: &str, problem: Problem) -> Problem {
    let detail = format!("{place}: {}", problem.detail());
    problem.with_detail(detail)
}

/// The members of one JSON object, in order, values as they were written.
pub(super) struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Members<'a> {
    /// Reads an object.
    pub(super) fn of(text: &'a [u8]) -> Result<Self, Problem> {
        let text = std::str::from_utf8(text).map_err(|_| Problem::usage("it is not UTF-8"))?;
        serde_json::from_str(text).map_err(|error| {
            // The place is that in the line, which people count themselves.
            let reason = error.to_string();
            let reason = reason.split(" at line 1 ").collect::<Vec<_>>().join(" at ");
            Problem::usage(format!("it is no JSON object: {reason}"))
        })
    }

    /// Takes a member; null counts as absent.
    pub(super) fn take(&mut self, name: &str) -> Option<&'a RawValue> {
        self.take_any(name).filter(|raw| raw.get() != "null")
    }

    fn take_any(&mut self, name: &str) -> Option<&'a RawValue> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.remove(at).1)
    }

    /// Takes a member that is text.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, Problem> {
        let read = |raw: &RawValue| {
            serde_json::from_str(raw.get()).map_err(|_| wrong(name, "a string", raw))
        };
        self.take(name).map(read).transpose()
    }

    /// Takes a member that is a list of strings.
    pub(super) fn texts(&mut self, name: &str) -> Result<Option<Vec<String>>, Problem> {
        let read = |raw: &RawValue| {
            serde_json::from_str(raw.get()).map_err(|_| wrong(name, "a list of strings", raw))
        };
        self.take(name).map(read).transpose()
    }

    /// Takes a member that is true or false.
    pub(super) fn flag(&mut self, name: &str) -> Result<bool, Problem> {
        match self.take(name) {
            None => Ok(false),
            Some(raw) => raw.get().parse().map_err(|_| wrong(name, "true or false", raw)),
        }
    }

    /// Takes a member that is a whole number from 0 on.
    pub(super) fn number(&mut self, name: &str) -> Result<Option<u64>, Problem> {
        let read = |raw: &RawValue| {
            raw.get().parse().map_err(|_| wrong(name, "a whole number from 0 on", raw))
        };
        self.take(name).map(read).transpose()
    }

    /// Takes a member that is a whole number from 0 on, or null for none at all.
    pub(super) fn limit(&mut self, name: &str) -> Result<Option<Option<u64>>, Problem> {
        let read = |raw: &RawValue| {
            let none = (raw.get() == "null").then_some(None);
            let limit = none.or_else(|| raw.get().parse().ok().map(Some));
            limit.ok_or_else(|| wrong(name, "a whole number from 0 on, or null", raw))
        };
        self.take_any(name).map(read).transpose()
    }

    /// Refuses what was not taken; `known` names what there is.
    pub(super) fn nothing_left(&self, what: &str, known: &str) -> Result<(), Problem> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(Problem::usage(format!("unknown field {name:?} in {what}"))
                .hint(format!("It takes {known}"))),
        }
    }

    /// Takes what a commit says about itself.
    fn about(&mut self) -> Result<Line, Problem> {
        let note = self.take("note").map(|raw| json(raw, "note")).transpose()?;
        let request_id = self.text("request_id")?;
        Ok(Line {
            ops: Vec::new(),
            tag: self.text("tag")?,
            note: note.map(Json::into_bytes),
            request_id: request_id.map(|id| checked_request_id(id.as_bytes())).transpose()?,
        })
    }

    /// Takes all that is left as one op.
    fn key_op(&mut self, key: Option<&Key>) -> Result<KeyOp, Problem> {
        let name = self.text("op")?.ok_or_else(|| missing("op", "an op"))?;
        let what = format!("op {name:?}");
        let named = |problem: Problem| within(&what, problem);
        let key = match key {
            Some(key) => key.clone(),
            None => {
                let key = self.text("key").map_err(named)?;
                Key::new(&key.ok_or_else(|| missing("key", &what))?).map_err(|e| named(e.into()))?
            }
        };
        let retype = self.flag("retype").map_err(named)?;
        let expect = self.text("if_version").and_then(expect_of).map_err(named)?;
        let (op, own) = self.op(&name).map_err(named)?;
        let comma = if own.is_empty() { "" } else { ", " };
        self.nothing_left(&what, &format!("op, key{comma}{own}, retype, if_version"))?;
        Ok(KeyOp { key, op, retype, expect })
    }

    /// Takes an op's own members; also returns their names.
    fn op(&mut self, name: &str) -> Result<(Op, &'static str), Problem> {
        Ok(match name {
            "put" => (self.put()?, "value, type"),
            "delete" => (Op::Delete, ""),
            "counter_add" => {
                let by = match self.take("by") {
                    None => 1,
                    Some(raw) => raw
                        .get()
                        .parse()
                        .map_err(|_| wrong("by", "a whole number of 64 bits with a sign", raw))?,
                };
                (Op::CounterAdd(by), "by")
            }
            "set_add" => (Op::SetAdd(self.elements()?), "elements"),
            "set_remove" => (Op::SetRemove(self.elements()?), "elements"),
            "map_put" => {
                let field = self.field()?;
                let value = self.take_any("value").ok_or_else(|| missing("value", "it"))?;
                (Op::MapPut { field, value: json(value, "value")? }, "field, value")
            }
            "map_delete" => (Op::MapDelete { field: self.field()? }, "field"),
            _ => {
                return Err(Problem::usage("there is no such op").hint(
                    "There are put, delete, counter_add, set_add, set_remove, map_put, map_delete",
                ));
            }
        })
    }

    fn put(&mut self) -> Result<Op, Problem> {
        let value = self.take_any("value").ok_or_else(|| missing("value", "it"))?;
        match self.text("type")?.as_deref() {
            None | Some("register") => Ok(Op::Put(json(value, "value")?)),
            Some("bytes") => {
                let bytes = Members::of(value.get().as_bytes()).and_then(|mut members| {
                    let text = members.text("base64")?;
                    members.nothing_left("value", "base64").map(|()| text)
                });
                let bytes = bytes.ok().flatten();
                let bytes = bytes.and_then(|text| BASE64.decode(text.as_bytes()).ok());
                let bytes = bytes.ok_or_else(|| wrong("value", "{\"base64\":\"…\"}", value))?;
                Ok(Op::PutBytes(bytes.into()))
            }
            Some(other) => Err(Problem::usage(format!("type is register or bytes, not {other:?}"))),
        }
    }

    fn elements(&mut self) -> Result<Vec<Json>, Problem> {
        let raw = self.take("elements").ok_or_else(|| missing("elements", "it"))?;
        let all: Vec<&RawValue> =
            serde_json::from_str(raw.get()).map_err(|_| wrong("elements", "an array", raw))?;
        if all.len() > limits::COMMIT_EVENTS_MAX {
            let most = limits::COMMIT_EVENTS_MAX;
            return Err(Problem::new(Kind::TooLarge, format!("at most {most} elements at once")));
        }
        all.into_iter().map(|element| json(element, "elements")).collect()
    }

    fn field(&mut self) -> Result<Arc<str>, Problem> {
        self.text("field")?.map(Into::into).ok_or_else(|| missing("field", "it"))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Self::Value::new();
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    if members.iter().any(|(known, _)| *known == name) {
                        let reason = format!("the member {name:?} is given twice");
                        return Err(serde::de::Error::custom(reason));
                    }
                    if members.len() == MEMBERS_MAX {
                        return Err(serde::de::Error::custom("too many members"));
                    }
                    members.push((name, value));
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Object).map(Members)
    }
}

/// Most members of an object that is not a value; no op has so many.
const MEMBERS_MAX: usize = 64;

fn expect_of(text: Option<String>) -> Result<Option<Expect>, Problem> {
    text.map(|text| expectation(&text)).transpose()
}

/// Brings a value to its canonical form.
pub(super) fn json(raw: &RawValue, name: &str) -> Result<Json, Problem> {
    canonical(raw.get().as_bytes(), name)
}

/// Brings the text of a value to its canonical form.
pub(super) fn canonical(text: &[u8], name: &str) -> Result<Json, Problem> {
    Json::parse(text).map_err(|error| {
        let problem = Problem::usage(format!("{name}: {error}"));
        match error.reason {
            JsonReason::TooLarge => problem
                .of_kind(Kind::TooLarge)
                .hint("Split it over several keys, or store it in a file of its own"),
            _ => problem,
        }
    })
}

fn missing(name: &str, what: &str) -> Problem {
    Problem::usage(format!("{what} needs the field {name:?}"))
}

fn wrong(name: &str, wanted: &str, found: &RawValue) -> Problem {
    let found = match found.get().as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        _ => "another number",
    };
    Problem::usage(format!("the field {name:?} must be {wanted}, not {found}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Line {
        line(text.as_bytes()).unwrap_or_else(|problem| panic!("{text}: {problem:?}"))
    }

    fn only(text: &str) -> Op {
        let mut line = read(text);
        assert_eq!(line.ops.len(), 1);
        line.ops.remove(0).op
    }

    fn refusal(text: &str) -> String {
        let problem = line(text.as_bytes()).expect_err(text);
        assert_eq!(problem.kind(), Kind::Usage, "{text}");
        problem.detail().to_owned()
    }

    fn value(text: &str) -> Json {
        Json::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn every_op_is_read() {
        assert_eq!(only(r#"{"op":"put","key":"k","value":null}"#), Op::Put(value("null")));
        let bytes = only(r#"{"op":"put","key":"k","type":"bytes","value":{"base64":"AP8="}}"#);
        assert_eq!(bytes, Op::PutBytes([0, 255].into()));
        assert_eq!(only(r#"{"op":"delete","key":"k"}"#), Op::Delete);
        assert_eq!(only(r#"{"op":"counter_add","key":"k","by":-3}"#), Op::CounterAdd(-3));
        assert_eq!(only(r#"{"op":"counter_add","key":"k"}"#), Op::CounterAdd(1));
        let elements = vec![value("1"), value("\"a\"")];
        let add = only(r#"{"op":"set_add","key":"k","elements":[1, "a"]}"#);
        assert_eq!(add, Op::SetAdd(elements.clone()));
        let remove = only(r#"{"op":"set_remove","key":"k","elements":[1,"a"]}"#);
        assert_eq!(remove, Op::SetRemove(elements));
        let put = only(r#"{"op":"map_put","key":"k","field":"f","value":{"b":1,"a":2}}"#);
        assert_eq!(put, Op::MapPut { field: "f".into(), value: value(r#"{"a":2,"b":1}"#) });
        let delete = only(r#"{"op":"map_delete","key":"k","field":"f"}"#);
        assert_eq!(delete, Op::MapDelete { field: "f".into() });
    }

    #[test]
    fn digits_stay_as_they_were_written() {
        for number in ["9007199254740993", "1.0", "-0", "1E400", &"1234567890".repeat(4)] {
            let text = format!(r#"{{"op":"put","key":"k","value":{number}}}"#);
            let Op::Put(json) = only(&text) else { panic!() };
            assert_eq!(json.as_str(), number);
        }
    }

    #[test]
    fn a_batch_carries_tag_and_note() {
        let line = read(
            r#"{"batch":[{"op":"put","key":"a","value":1},{"op":"delete","key":"b"}],
                "tag":"v1","note":{"b":1, "a":2},"request_id":"r"}"#,
        );
        assert_eq!(line.ops.len(), 2);
        assert_eq!(line.tag.as_deref(), Some("v1"));
        assert_eq!(line.note.as_deref(), Some(&br#"{"a":2,"b":1}"#[..]));
        assert_eq!(line.request_id.as_deref(), Some(&b"r"[..]));
        let single = read(r#"{"op":"delete","key":"b","tag":"v1","note":"n"}"#);
        assert_eq!(
            (single.tag.as_deref(), single.note.as_deref()),
            (Some("v1"), Some(&b"\"n\""[..]))
        );
    }

    #[test]
    fn conditions_and_retype_are_read() {
        let mut line = read(r#"{"op":"delete","key":"b","retype":true,"if_version":"none"}"#);
        let op = line.ops.remove(0);
        assert!(op.retype);
        assert_eq!(op.expect, Some(Expect::Absent));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, named) in [
            (r#"{"op":"put","key":"k","vlaue":1}"#, r#"needs the field "value""#),
            (r#"{"op":"put","key":"k","value":1,"x":1}"#, r#"unknown field "x" in op "put""#),
            (r#"{"op":"put","value":1}"#, r#"needs the field "key""#),
            (r#"{"op":"put","key":7,"value":1}"#, r#""key" must be a string, not another number"#),
            (r#"{"op":"put","key":"","value":1}"#, "a key cannot be empty"),
            (r#"{"op":"counter_add","key":"k","by":"5"}"#, r#""by" must be a whole number"#),
            (r#"{"op":"counter_add","key":"k","by":5.0}"#, r#""by" must be a whole number"#),
            (r#"{"op":"counter_add","key":"k","by":9223372036854775808}"#, "64 bits"),
            (r#"{"op":"set_add","key":"k","elements":"a"}"#, "must be an array, not a string"),
            (r#"{"op":"set_add","key":"k"}"#, r#"needs the field "elements""#),
            (r#"{"op":"map_put","key":"k","value":1}"#, r#"needs the field "field""#),
            (r#"{"op":"put","key":"k","value":{"a":1,"a":2}}"#, "duplicate member name"),
            (r#"{"op":"put","op":"put","key":"k","value":1}"#, r#""op" is given twice"#),
            (r#"{"op":"putt","key":"k"}"#, "there is no such op"),
            (r#"{"key":"k"}"#, r#"needs the field "op""#),
            (r#"{"batch":{}}"#, "must be an array of ops, not an object"),
            (r#"{"batch":[],"op":"put"}"#, r#"unknown field "op" in a batch"#),
            (r#"{"batch":[{"op":"delete","key":"a"},{"op":"delete"}]}"#, "op 2"),
            (r#"{"op":"put","key":"k","type":"bytes","value":"x"}"#, "base64"),
            (r#"{"op":"delete","key":"k","retype":"yes"}"#, "must be true or false, not a string"),
            (r#"{"op":"delete","key":"k","if_version":"x"}"#, "neither none"),
            ("[1]", "no JSON object"),
            ("{", "no JSON object"),
            ("", "no JSON object"),
        ] {
            let refusal = refusal(text);
            assert!(refusal.contains(named), "{text}: {refusal}");
        }
    }

    #[test]
    fn a_key_in_the_path_is_not_given_again() {
        let key = Key::new("k").unwrap();
        let line = op_on(&key, br#"{"op":"counter_add","by":5}"#).unwrap();
        assert_eq!(line.ops[0].key, key);
        assert!(op_on(&key, br#"{"op":"counter_add","by":5,"key":"k"}"#).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[\\[\\]{}\":,a-z0-9\\\\ ]{0,60}") {
            let _ = line(text.as_bytes());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = line(&bytes);
        }
    }
}
