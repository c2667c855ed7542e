//! Time and bytes of the content type `compact`, beside JSON.
//!
//! The messages are the files of the folder COMPACT_MESSAGES, which `bench/compact` fills with those
//! of a server that others wrote, or, without it, a call and a list of tools.

use std::{fmt::Write as _, fs, hint::black_box, path::Path};

use aip_codec::aip::compact::{decode, encode};
use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// The messages, by name.
fn messages() -> Vec<(String, String)> {
    match std::env::var_os("COMPACT_MESSAGES") {
        Some(folder) => of_folder(Path::new(&folder)),
        None => {
            let call = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"add","arguments":{"a":2,"b":40}}}"#;
            vec![("call".to_owned(), call.to_owned()), ("tools".to_owned(), tools(20))]
        }
    }
}

fn of_folder(folder: &Path) -> Vec<(String, String)> {
    let files = fs::read_dir(folder).expect("the folder is there");
    let mut messages: Vec<_> = files
        .map(|file| {
            let path = file.expect("it is read").path();
            let name = path.file_stem().expect("it has a name").to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).expect("it is read");
            (name, text)
        })
        .collect();
    messages.sort();
    messages
}

/// A list of so many tools.
fn tools(count: usize) -> String {
    let mut text = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":["#.to_owned();
    for number in 0..count {
        let comma = if number == 0 { "" } else { "," };
        write!(
            text,
            r#"{comma}{{"name":"tool_{number}","description":"Does what tool {number} does to a file.","inputSchema":{{"type":"object","properties":{{"path":{{"type":"string","description":"The file"}},"lines":{{"type":"number"}}}},"required":["path"]}}}}"#
        )
        .expect("a string takes all");
    }
    text.push_str("]}}");
    text
}

#[expect(clippy::print_stdout, reason = "bytes are a result of this benchmark too")]
fn sizes(messages: &[(String, String)]) {
    println!("{:<24} {:>8} {:>8} {:>6}", "message", "JSON", "compact", "ratio");
    for (name, text) in messages {
        let mut bytes = BytesMut::new();
        encode(text, &mut bytes).expect("it has a compact form");
        let percent = bytes.len() * 100 / text.len();
        println!("{name:<24} {:>8} {:>8} {percent:>5}%", text.len(), bytes.len());
    }
}

fn compact(criterion: &mut Criterion) {
    let messages = messages();
    sizes(&messages);
    let mut group = criterion.benchmark_group("compact");
    for (name, text) in messages {
        let mut bytes = BytesMut::new();
        encode(&text, &mut bytes).expect("it has a compact form");
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(format!("encode/{name}"), |bencher| {
            let mut out = BytesMut::with_capacity(text.len());
            bencher.iter(|| {
                out.clear();
                encode(black_box(&text), &mut out).expect("it has a compact form");
            });
        });
        group.bench_function(format!("decode/{name}"), |bencher| {
            bencher.iter(|| black_box(decode(black_box(&bytes), usize::MAX)));
        });
        // What an edge does with JSON in any case: find out that it is some.
        group.bench_function(format!("json_read/{name}"), |bencher| {
            bencher.iter(|| {
                let read = serde_json::from_str::<&serde_json::value::RawValue>(black_box(&text));
                black_box(read.expect("it is JSON"));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, compact);
criterion_main!(benches);
