//! Follows a store: each commit once, when it is durable, from a position that outlives a restart.

#![expect(clippy::print_stdout, reason = "an example prints")]

use std::time::Duration;

use kdelta::host::replica::Replica;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let replica = Replica::open(dir.path())?;
    let space = replica.default_space()?;
    let mut cursor = replica.read(|store| store.durable());
    let writer = replica.clone();
    let writing = std::thread::spawn(move || {
        for number in 1..=3 {
            writer.put("note", &number.to_string()).map_err(|error| error.to_string())?;
        }
        Ok::<(), String>(())
    });
    let mut seen = 0;
    while seen < 3 {
        let durable = replica.wait_durable_past(cursor, Duration::from_secs(10));
        assert!(durable > cursor, "three writes are on their way");
        let (commits, next) =
            replica.read(|store| store.arrived(&space, cursor, durable, 64 << 10))?;
        cursor = next;
        for arrived in commits {
            seen += 1;
            let keys = arrived.commit.events.iter().filter_map(|event| event.key());
            println!("{}: {:?}", arrived.tip.id, keys.collect::<Vec<_>>());
        }
    }
    writing.join().map_err(|_| "the writer panicked")??;
    Ok(replica.close()?)
}
