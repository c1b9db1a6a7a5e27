#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kdelta_fuzz::query::query(bytes));
