use std::cmp::Ordering;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::expr::Expr;
use super::number::{self, Sum};
use super::order::{equal, order};
use super::*;

fn row(key: &str, value: Value) -> Row {
    let about = [key, "register", "aa.0", "2026-01-02T03:04:05.000Z", "bb"];
    Row::new(about.map(str::to_owned), value)
}

fn holds(text: &str, value: Value) -> bool {
    Expr::parse(text).unwrap().holds(&row("user/1", value))
}

fn wrong(text: &str) -> String {
    Expr::parse(text).unwrap_err().to_string()
}

#[test]
fn an_expression_holds_of_what_it_says() {
    let ada = json!({"name": "Ada", "age": 36, "tags": ["a", "b"], "home": {"city": "London"},
        "odd name": true, "none": null});
    for text in [
        "age = 36",
        "age == 36.0",
        "age != 37",
        "age < 37",
        "age <= 36",
        "age > 3.5e1",
        "age >= 36",
        "name = 'Ada'",
        "name = \"Ada\"",
        "name prefix 'A'",
        "name matches '^A.a$'",
        "name contains 'd'",
        "tags contains 'b'",
        "home contains 'city'",
        "tags[1] = 'b'",
        "home.city = 'London'",
        "\"odd name\" = true",
        "home.\"city\" in ['Paris', 'London']",
        "exists home.city",
        "not exists home.street",
        "none = null",
        "exists none",
        "home = {\"city\": 'London'}",
        "tags = ['a', 'b']",
        "age = 1 or age = 36 and name = 'Ada'",
        "(age = 1 or age = 36) and not name = 'Bob'",
        "NOT age=1 AND not (age=2 OR age=3)",
        "@key prefix 'user/'",
        "@type = 'register'",
        "@time > '2026-01-01'",
        "@value.age = 36",
        "@author = 'bb'",
        "@version = 'aa.0'",
    ] {
        let text = text.replace("{\"city\": 'London'}", "{\"city\": \"London\"}");
        let text = text.replace("['Paris', 'London']", "[\"Paris\", \"London\"]");
        let text = text.replace("['a', 'b']", "[\"a\", \"b\"]");
        assert!(holds(&text, ada.clone()), "{text}");
        assert!(!holds(&format!("not ({text})"), ada.clone()), "not {text}");
    }
}

#[test]
fn what_is_not_there_or_of_another_kind_passes_no_test() {
    for text in ["a = 1", "a != 1", "a < 1", "a in [1]", "a contains 1", "a prefix ''"] {
        assert!(!holds(text, json!({"b": 1})), "{text}");
    }
    for text in ["a < 'z'", "a > 'a'", "a prefix '1'", "a matches '1'", "a contains 1", "a[0] = 1"]
    {
        assert!(!holds(text, json!({"a": 1})), "{text}");
    }
    assert!(holds("a != '1'", json!({"a": 1})));
    assert!(!holds("a < [2]", json!({"a": [1]})));
}

#[test]
fn numbers_are_compared_digit_by_digit() {
    let large = "9007199254740993";
    let value: Value = serde_json::from_str(large).unwrap();
    assert!(holds("@value = 9007199254740993", value.clone()));
    assert!(holds("@value > 9007199254740992", value.clone()));
    assert!(!holds("@value = 9007199254740992", value));
    let ascending = [
        "-1e9999999999999999999999",
        "-2e100",
        "-10",
        "-9.5",
        "-0.001",
        "0",
        "1e-400",
        "0.00012",
        "0.0012",
        "0.12",
        "1",
        "1.0000000000000000000000000000000001",
        "9.99",
        "10",
        "1e2",
        "123456789012345678901234567890",
        "1e400",
        "1e9999999999999999999999",
    ];
    for (a_at, a) in ascending.iter().enumerate() {
        for (b_at, b) in ascending.iter().enumerate() {
            let [a, b]: [serde_json::Number; 2] =
                [a, b].map(|text| serde_json::from_str(text).unwrap());
            assert_eq!(number::compare(&a, &b), a_at.cmp(&b_at), "{a} {b}");
        }
    }
    for same in ["100", "100.0", "1e2", "1E+2", "0.1e3", "1000e-1", "00100".trim_start_matches('0')]
    {
        let [a, b]: [serde_json::Number; 2] =
            ["100", same].map(|t| serde_json::from_str(t).unwrap());
        assert_eq!(number::compare(&a, &b), Ordering::Equal, "{same}");
    }
    assert!(equal(&json!(0), &serde_json::from_str("-0.0e5").unwrap()));
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    assert_eq!(wrong(""), "byte 0: expected the name of a field, it ends");
    assert_eq!(
        wrong("age ~ 3"),
        "byte 4: expected =, !=, <, <=, >, >=, in, contains, prefix or matches, found \"~ 3\""
    );
    assert_eq!(wrong("age = "), "byte 6: expected a JSON value, it ends");
    assert_eq!(wrong("a = 1 b"), "byte 6: expected and, or, or the end, found \"b\"");
    assert_eq!(wrong("(a = 1"), "byte 6: expected and, or, or ), it ends");
    assert_eq!(
        wrong("@nothing = 1"),
        "byte 1: expected value, key, type, version, time or author, found \"nothing = 1\""
    );
    assert_eq!(wrong("a = 'x"), "the quote at byte 4 does not end");
    assert_eq!(wrong("a in 1"), "in takes an array, such as [1, 2]");
    assert!(wrong("a matches '('").starts_with("the pattern \"(\" is wrong: "));
    assert!(wrong("a matches '(((a{99}){99}){99})'").contains("size limit"));
    assert_eq!(wrong(&"(".repeat(1000)), "it nests deeper than 64");
    assert_eq!(wrong(&"not ".repeat(1000)), "it nests deeper than 64");
    assert_eq!(wrong(&" ".repeat(9000)), "it has more than 8192 bytes");
    for text in ["a.", "a.[0] = 1", "a[-1] = 1", "a[1 = 1", "a .b = 1", "= 1", "a = 01", "\"a = 1"]
    {
        Expr::parse(text).unwrap_err();
    }
}

fn run(request: Value, rows: &[(&str, Value)]) -> Page {
    let query = Query::new(serde_json::from_value(request).unwrap()).unwrap();
    let mut gather = Gather::new(&query);
    for (key, value) in rows {
        if query.after_key().is_none_or(|after| *key > after)
            && !gather.take(&row(key, value.clone())).unwrap()
        {
            break;
        }
    }
    gather.finish().unwrap()
}

fn keys(page: &Page) -> Vec<&str> {
    page.rows.iter().map(|row| row["key"].as_str().unwrap()).collect()
}

fn cities() -> Vec<(&'static str, Value)> {
    vec![
        ("a", json!({"city": "Oslo", "n": 3})),
        ("b", json!({"city": "Bern", "n": 10})),
        ("c", json!({"city": "Oslo", "n": 4.5})),
        ("d", json!({"n": 1})),
        ("e", json!({"city": "Bern"})),
    ]
}

#[test]
fn rows_are_sorted_with_what_is_missing_last() {
    let all = cities();
    assert_eq!(keys(&run(json!({"sort": ["n"]}), &all)), ["d", "a", "c", "b", "e"]);
    assert_eq!(keys(&run(json!({"sort": ["n:desc"]}), &all)), ["b", "c", "a", "d", "e"]);
    assert_eq!(keys(&run(json!({"sort": ["city", "n:desc"]}), &all)), ["b", "e", "c", "a", "d"]);
    let page = run(json!({"where": ["city = 'Oslo'", "n > 3"], "select": ["n", "city"]}), &all);
    let fields: Vec<_> = page.rows.iter().map(|row| &row["fields"]).collect();
    assert_eq!(fields, [&json!({"n": 4.5, "city": "Oslo"})]);
}

#[test]
fn pages_follow_one_another_without_gap_or_overlap() {
    let all = cities();
    for sort in [json!([]), json!(["n"]), json!(["city:desc", "n"])] {
        let whole = run(json!({"sort": sort}), &all);
        assert_eq!(whole.next, None);
        for limit in 1..=5 {
            let (mut rows, mut after) = (Vec::new(), None);
            loop {
                let page = run(json!({"sort": sort, "limit": limit, "after": after}), &all);
                assert!(page.rows.len() <= limit);
                rows.extend(page.rows);
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(rows, whole.rows, "{sort} {limit}");
        }
    }
    let page = run(json!({"sort": ["n"], "limit": 1}), &all);
    let other = serde_json::from_value(json!({"sort": ["city"], "after": page.next})).unwrap();
    assert!(Query::new(other).unwrap_err().to_string().starts_with("after takes"));
}

#[test]
fn groups_sum_up_their_rows() {
    let all = cities();
    let page = run(
        json!({"group_by": ["city"], "sum": ["n"], "avg": ["n"], "min": ["n"], "max": ["n"]}),
        &all,
    );
    let group = |city: Value, count: u64, sum: Value, avg: f64, min: Value, max: Value| {
        json!({"group": city, "count": count, "sum": {"n": sum}, "avg": {"n": avg},
            "min": {"n": min}, "max": {"n": max}})
    };
    assert!(page.groups);
    assert_eq!(
        page.rows,
        [
            group(json!({"city": "Bern"}), 2, json!(10), 10.0, json!(10), json!(10)),
            group(json!({"city": "Oslo"}), 2, json!(7.5), 3.75, json!(3), json!(4.5)),
            group(json!({}), 1, json!(1), 1.0, json!(1), json!(1)),
        ]
    );
    let sorted = json!({"group_by": ["city"], "sum": ["n"], "sort": ["sum(n):desc"], "limit": 2});
    let page = run(sorted, &all);
    let sums: Vec<_> = page.rows.iter().map(|row| &row["sum"]["n"]).collect();
    assert_eq!(sums, [&json!(10), &json!(7.5)]);
    let rest =
        json!({"group_by": ["city"], "sum": ["n"], "sort": ["sum(n):desc"], "after": page.next});
    assert_eq!(run(rest, &all).rows[0]["sum"]["n"], json!(1));
    assert_eq!(run(json!({"count": true}), &[]).rows, [json!({"group": {}, "count": 0})]);
    let of_none = run(json!({"sum": ["x"], "avg": ["x"], "max": ["x"]}), &all);
    let none = json!({"group": {}, "count": 5, "sum": {"x": null}, "avg": {"x": null},
        "max": {"x": null}});
    assert_eq!(of_none.rows, [none]);
}

#[test]
fn whole_numbers_sum_up_without_loss() {
    let mut sum = Sum::Whole(0);
    for text in ["9007199254740993", "9007199254740993", "-1"] {
        sum.add(&serde_json::from_str(text).unwrap());
    }
    assert_eq!(sum.json().to_string(), "18014398509481985");
    assert_eq!(sum.mean(5).to_string(), "3602879701896397.0");
    let mut sum = Sum::Whole(0);
    for text in ["1e100", "1", "-1e100"] {
        sum.add(&serde_json::from_str(text).unwrap());
    }
    assert_eq!(sum.json().to_string(), "1.0");
    sum.add(&serde_json::from_str("1e999").unwrap());
    assert_eq!(sum.json(), Value::Null);
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    for (request, said) in [
        (json!({"where": ["a ="]}), "where \"a =\": byte 3: expected a JSON value, it ends"),
        (json!({"sort": ["a b"]}), "sort \"a b\": byte 2: expected the end of the field"),
        (json!({"count": true, "select": ["a"]}), "select is for rows"),
        (json!({"count": true, "sort": ["a"]}), "sort \"a\": groups are sorted by one of: count"),
        (json!({"after": "x"}), "after takes"),
        (json!({"where": vec!["a = 1"; 17]}), "where has more than 16 members"),
    ] {
        let request: Request = serde_json::from_value(request).unwrap();
        let wrong = Query::new(request).unwrap_err().to_string();
        assert!(wrong.starts_with(said), "{wrong}");
    }
    assert!(serde_json::from_value::<Request>(json!({"wehre": []})).is_err());
}

#[test]
fn a_query_holds_no_more_than_its_bound() {
    let query = Query::new(serde_json::from_value(json!({"sort": ["n"], "limit": 0})).unwrap());
    let query = query.unwrap();
    let mut gather = Gather::new(&query);
    let long = "x".repeat(1 << 20);
    let full = (0..100)
        .find_map(|n| gather.take(&row(&n.to_string(), json!({"n": n, "text": long}))).err());
    assert_eq!(full, Some(Full::Held));
    let few = Query::new(serde_json::from_value(json!({"sort": ["n"], "limit": 3})).unwrap());
    let few = few.unwrap();
    let mut gather = Gather::new(&few);
    for n in 0..100 {
        assert!(gather.take(&row(&n.to_string(), json!({"n": n, "text": long}))).unwrap());
    }
    assert_eq!(keys(&gather.finish().unwrap()), ["0", "1", "2"]);
}

#[test]
fn a_page_of_large_rows_ends_early_and_the_next_goes_on() {
    let long = "x".repeat(1 << 20);
    let names: Vec<String> = (0..20).map(|n| format!("{n:02}")).collect();
    let all: Vec<_> = names.iter().map(|name| (name.as_str(), json!(long))).collect();
    let (mut seen, mut after, mut pages) = (Vec::new(), Value::Null, 0);
    loop {
        let page = run(json!({"limit": 50, "after": after}), &all);
        seen.extend(keys(&page).iter().map(|key| (*key).to_owned()));
        pages += 1;
        match page.next {
            Some(next) => after = next.into(),
            None => break,
        }
    }
    assert_eq!(seen, names);
    assert!((4..8).contains(&pages), "{pages}");
}

fn any_json() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        (-999_i64..999, -5_i32..5).prop_map(|(n, e)| format!("{n}e{e}")),
        (-99_i64..99, 0_u32..99).prop_map(|(n, f)| format!("{n}.{f:03}")),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number.prop_map(|text| serde_json::from_str(&text).unwrap()),
        "[ab]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[ab]", inner, 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn values_are_in_one_order(a in any_json(), b in any_json(), c in any_json()) {
        prop_assert_eq!(order(&a, &b), order(&b, &a).reverse());
        prop_assert_eq!(order(&a, &a), Ordering::Equal);
        if order(&a, &b).is_le() && order(&b, &c).is_le() {
            prop_assert!(order(&a, &c).is_le());
        }
    }

    #[test]
    fn numbers_of_one_exponent_compare_as_whole_ones(
        a in -9999_i64..9999, b in -9999_i64..9999, e in -4..4_i32,
    ) {
        let number = |text: String| serde_json::from_str::<serde_json::Number>(&text).unwrap();
        let [x, y] = [a, b].map(|n| number(format!("{n}e{e}")));
        prop_assert_eq!(number::compare(&x, &y), a.cmp(&b));
        let shifted = number(format!("{}e{}", a * 100, e - 2));
        prop_assert_eq!(number::compare(&x, &shifted), Ordering::Equal);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[a-c@.\\[\\]'\"()=<>! 0-9{}:,notandrexis]{0,40}") {
        if let Ok(expr) = Expr::parse(&text) {
            expr.holds(&row("k", json!({"a": [1, {"b": "c"}]})));
        }
    }

    #[test]
    fn a_page_is_what_sorting_everything_gives(
        values in prop::collection::vec(any_json(), 0..12),
        limit in 1_usize..6,
        down in any::<bool>(),
    ) {
        let names: Vec<String> = (0..values.len()).map(|n| format!("k{n:02}")).collect();
        let rows: Vec<(&str, Value)> = names.iter().map(String::as_str).zip(values).collect();
        let sort = if down { "@value:desc" } else { "@value" };
        let page = run(json!({"sort": [sort], "limit": limit}), &rows);
        let mut naive: Vec<&(&str, Value)> = rows.iter().collect();
        naive.sort_by(|a, b| if down { order(&b.1, &a.1) } else { order(&a.1, &b.1) });
        let naive: Vec<&str> = naive.iter().take(limit).map(|(key, _)| *key).collect();
        prop_assert_eq!(keys(&page), naive);
    }
}
