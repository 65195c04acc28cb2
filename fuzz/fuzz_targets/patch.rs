#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pyro_fuzz::patch(bytes));
