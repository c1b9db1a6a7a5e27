//! Two replicas in one process meet over loopback QUIC and merge what they wrote apart.

#![expect(clippy::print_stdout, reason = "an example prints")]

use std::time::Duration;

use kdelta::engine::crdt::Value;
use kdelta::host::replica::{Replica, SyncTarget};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (home, other) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let (ada, bob) = (Replica::open(home.path())?, Replica::open(other.path())?);
    ada.counter_add("seats", 4)?;
    ada.serve("127.0.0.1:0".parse()?, Vec::new(), false)?;
    let ticket = ada.ticket(ada.default_space()?, Duration::from_secs(60), 1)?;
    for report in bob.sync(SyncTarget::Ticket(ticket), None)? {
        assert!(report.in_sync, "{report:?}");
    }
    // Apart: neither knows of the other's write.
    ada.counter_add("seats", 2)?;
    bob.counter_add("seats", -1)?;
    ada.put("title", r#""mountains""#)?;
    bob.put("title", r#""lake""#)?;
    for report in bob.sync(SyncTarget::All, None)? {
        assert!(report.in_sync, "{report:?}");
    }
    for replica in [&ada, &bob] {
        let seats = replica.get("seats")?.ok_or("it is there")?;
        assert_eq!(seats.value, Value::Counter(5), "counters sum up");
    }
    let (here, there) = (ada.get("title")?.ok_or("here")?, bob.get("title")?.ok_or("there")?);
    assert_eq!(here, there, "both show the same");
    assert_eq!(here.conflicts.len(), 1, "the other value is kept");
    println!("both show {:?}; a conflict holds {:?}", here.value, here.conflicts);
    bob.close()?;
    Ok(ada.close()?)
}
