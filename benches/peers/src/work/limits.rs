//! The limits of the machine that everything above stands upon.

use std::hint::black_box;
use std::time::Duration;

use ed25519_dalek::{Signer as _, SigningKey};
use sha2::{Digest as _, Sha256};

use crate::figures::Part;
use crate::raw::{self, nanoseconds};
use crate::settings::Settings;
use crate::{Outcome, Res};

/// What everything here is called.
pub(crate) const WHO: &str = "machine";

pub(crate) fn run(settings: &Settings, part: &mut Part) -> Outcome {
    let span = Duration::from_millis(settings.count(200, 600));
    let times = settings.count(1, 10);
    for _ in 0..settings.rounds() {
        for bytes in [200, 4 << 10, 64 << 10] {
            for preallocated in [true, false] {
                let dir = settings.fresh()?;
                let rate = raw::appends(dir.path(), &vec![7; bytes], preallocated, span)?;
                let what = format!("{}, {bytes} bytes", super::put::RAW[usize::from(preallocated)]);
                part.add(&what, WHO, "syncs/s", rate);
            }
        }
        part.add("copy in memory, 64 KiB", WHO, "GB/s", copy(64 << 10, 20_000 * times)?);
        part.add("copy in memory, 64 MiB", WHO, "GB/s", copy(64 << 20, 10 * times)?);
        for bytes in [128, 4096] {
            let data = vec![0x5a; bytes];
            let taken = nanoseconds(20_000 * times, |_| {
                black_box(Sha256::digest(black_box(&data)));
                Ok(())
            })?;
            part.add(&format!("SHA-256 of {bytes} bytes"), WHO, "ns", taken);
            let taken = nanoseconds(100_000 * times, |_| {
                black_box(crc32fast::hash(black_box(&data)));
                Ok(())
            })?;
            part.add(&format!("CRC32 of {bytes} bytes"), WHO, "ns", taken);
        }
        signatures(1_000 * times, part)?;
        let bytes = settings.count(32 << 20, 256 << 20);
        let rate = bytes as f64 / raw::stream(bytes)?.as_secs_f64() / 1e6;
        part.add("raw stream of QUIC over loopback", WHO, "MB/s", rate);
    }
    Ok(())
}

/// Gigabytes that are copied in a second.
fn copy(bytes: usize, times: u64) -> Res<f64> {
    let (from, mut to) = (vec![0x5a_u8; bytes], vec![0_u8; bytes]);
    let taken = nanoseconds(times, |_| {
        black_box(&mut to).copy_from_slice(black_box(&from));
        Ok(())
    })?;
    Ok(bytes as f64 / taken)
}

fn signatures(count: u64, part: &mut Part) -> Outcome {
    let key = SigningKey::from_bytes(&[7; 32]);
    let text = [0x5a; 64];
    let taken = nanoseconds(count, |_| {
        black_box(key.sign(black_box(&text)));
        Ok(())
    })?;
    part.add("Ed25519, to sign 64 bytes", WHO, "µs", taken / 1000.0);
    let (signature, public) = (key.sign(&text), key.verifying_key());
    let taken = nanoseconds(count, |_| Ok(public.verify_strict(black_box(&text), &signature)?))?;
    part.add("Ed25519, to check strictly", WHO, "µs", taken / 1000.0);
    Ok(())
}
