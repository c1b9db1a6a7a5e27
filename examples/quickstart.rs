//! A store in twenty lines: typed values, an atomic batch, history and time travel.

#![expect(clippy::print_stdout, reason = "an example prints")]

use kdelta::engine::crdt::Op;
use kdelta::engine::store::Point;
use kdelta::host::replica::Replica;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let replica = Replica::open(dir.path())?;
    let first = replica.put("title", r#""Trip to the sea""#)?;
    replica.put("title", r#""Trip to the lake""#)?;
    replica.batch([("seats", Op::CounterAdd(4)), ("visits", Op::CounterAdd(1))])?;
    replica.counter_add("seats", -1)?;

    let (_, version) = first.written.events.first().ok_or("one event")?;
    let then = replica.get_at("title", &Point::Event(*version))?.ok_or("it was there")?;
    let now = replica.get("title")?.ok_or("it is there")?;
    let seats = replica.get("seats")?.ok_or("it is there")?;
    let events = replica.history("title", 10)?.len();
    assert_ne!(then.value, now.value, "time travel shows the past");
    assert_eq!(events, 2, "every key keeps its history");
    assert_eq!(seats.value, kdelta::engine::crdt::Value::Counter(3), "adds sum up");
    println!("now {:?}, first {:?}, seats {:?}", now.value, then.value, seats.value);
    Ok(replica.close()?)
}
