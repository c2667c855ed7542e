#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| aip_tests::fuzz::text(input));
