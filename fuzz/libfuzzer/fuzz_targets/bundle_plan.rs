#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| orangery_fuzz::bundle_plan(data));
