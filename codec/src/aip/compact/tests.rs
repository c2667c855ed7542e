use bytes::BytesMut;

use super::*;
use crate::{DecodeError, Violation};

const LENGTH_MAX: usize = 1 << 20;

fn encoded(text: &str) -> Result<BytesMut, Unencodable> {
    let mut out = BytesMut::from(&b"before"[..]);
    let result = encode(text, &mut out);
    let written = out.split_off(6);
    assert_eq!(&out[..], b"before");
    assert!(result.is_ok() || written.is_empty(), "something is left of a failure");
    result.map(|()| written)
}

/// `text` comes back as `expected`, and no part of its bytes is a message.
#[track_caller]
fn check_as(text: &str, expected: &str) -> usize {
    let bytes = encoded(text).unwrap();
    assert_eq!(decode(&bytes, LENGTH_MAX).unwrap(), expected);
    assert_eq!(decode(&bytes, expected.len()).unwrap(), expected);
    assert_eq!(decode(&bytes, expected.len() - 1), Err(Violation::RecordTooLong.into()));
    for cut in 0..bytes.len() {
        assert_eq!(decode(&bytes[..cut], LENGTH_MAX), Err(DecodeError::Incomplete), "cut at {cut}");
    }
    let trailing = [&bytes[..], b"x"].concat();
    assert_eq!(decode(&trailing, LENGTH_MAX), Err(Violation::Compact.into()));
    bytes.len()
}

#[track_caller]
fn check(text: &str) -> usize {
    check_as(text, text)
}

#[track_caller]
fn refused(text: &str, why: Unencodable) {
    assert_eq!(encoded(text).unwrap_err(), why, "{text:.80}");
}

#[test]
fn messages_of_every_kind_come_back() {
    check(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    check(r#"{"jsonrpc":"2.0","id":"a","method":"tools/list","params":{}}"#);
    check(
        r#"{"jsonrpc":"2.0","id":-9223372036854775808,"method":"m","params":{"name":"x","own":[]}}"#,
    );
    check(r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":0.5}}"#);
    check(r#"{"jsonrpc":"2.0","id":9223372036854775807,"result":{"content":[],"x":{"y":null}}}"#);
    check(r#"{"jsonrpc":"2.0","id":1,"result":7}"#);
    check(r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"a\nb"}}"#);
    check(r#"{"jsonrpc":"2.0","error":{"code":5,"message":"","data":{"a":[1]},"own":true}}"#);
    check(r#"{"jsonrpc":"2.0","id":1,"method":"m","params":[1,2],"own":{"a":1},"other":2}"#);
}

#[test]
fn values_of_every_kind_come_back() {
    let long = "é".repeat(100);
    let many = vec!["1"; 40].join(",");
    let members: Vec<String> = (0..40).map(|n| format!(r#""m{n}":{n}"#)).collect();
    let members = members.join(",");
    for value in [
        "null",
        "true",
        "false",
        "0",
        "63",
        "64",
        "-1",
        "9223372036854775807",
        "1.5",
        "-0.0",
        "1e300",
        "5e-324",
        r#""""#,
        r#""a\"b\\c\u0001""#,
        r#""😀""#,
        "[]",
        "[[],{}]",
        "{}",
        &format!(r#""{long}""#),
        &format!("[{many}]"),
        &format!("{{{members}}}"),
    ] {
        check(&format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"x":{value},"text":{value}}}}}"#));
        check(&format!(r#"{{"jsonrpc":"2.0","id":1,"result":{value}}}"#));
    }
}

#[test]
fn lists_are_the_drafts_structures() {
    let tools = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a","inputSchema":{"type":"object"}},{"name":"b"},{"title":"t","name":"c"},{},7,{"name":1}]}}"#;
    check(tools);
    assert!(encoded(tools).unwrap().contains(&head::TOOL));
    check(
        r#"{"jsonrpc":"2.0","id":1,"result":{"prompts":[{"name":"a","arguments":[{"name":"x","required":true}]}]}}"#,
    );
    check(
        r#"{"jsonrpc":"2.0","id":1,"result":{"resources":[{"uri":"a","name":"n"},{"name":"n","uri":"a"}]}}"#,
    );
    check(r#"{"jsonrpc":"2.0","id":1,"result":{"tools":{"name":"a"}}}"#);
}

#[test]
fn what_is_written_otherwise_comes_back_as_the_same_value() {
    check_as(
        "\r\n{ \"result\" : {\"b\" : 1.50e1, \"a\" :\t[ -0 ],\"\\u00e9\":\"\\/\\ud83d\\ude00\"}, \"id\":1,\"jsonrpc\":\"2.0\" } ",
        r#"{"jsonrpc":"2.0","id":1,"result":{"b":15.0,"a":[-0.0],"é":"/😀"}}"#,
    );
    check_as(
        r#"{"jsonrpc":"2.0","id":1,"error":{"data":1,"message":"m","code":2}}"#,
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":2,"message":"m","data":1}}"#,
    );
}

#[test]
fn what_would_not_come_back_is_refused() {
    let result = |value: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"x":{value}}}}}"#);
    for number in
        ["9223372036854775808", "-9223372036854775809", "1e400", "0.12345678901234567890123"]
    {
        refused(&result(number), Unencodable::Number);
    }
    for twice in [r#"{"a":1,"a":2}"#, r#"{"name":1,"b":2,"name":1}"#, r#"{"a":1,"\u0061":2}"#] {
        refused(&result(twice), Unencodable::Twice);
    }
    for half in [r#""\ud800""#, r#""\udc00\ud800""#, r#""\ud800\u0041""#] {
        refused(&result(half), Unencodable::NotText);
    }
    for wrong in [
        "",
        "01",
        "+1",
        "1.",
        ".5",
        "1e",
        "nul",
        "\"a",
        "\"\\x\"",
        "\"\\u12\"",
        "[1,]",
        "{a:1}",
        "\"\n\"",
        "1 2",
    ] {
        refused(&result(wrong), Unencodable::NotJson);
    }
    let deep = |depth: usize| result(&format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
    check(&deep(DEPTH_MAX - 1));
    refused(&deep(DEPTH_MAX), Unencodable::TooDeep);
    refused(&deep(1_000_000), Unencodable::TooDeep);
    for none in [
        "[]",
        r#"{"id":1,"method":"m"}"#,
        r#"{"jsonrpc":"1.0","id":1,"method":"m"}"#,
        r#"{"jsonrpc":"2.0","id":1}"#,
        r#"{"jsonrpc":"2.0","id":1.5,"method":"m"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":2}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":1,"error":{"code":1,"message":""}}"#,
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":1}}"#,
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":"1","message":""}}"#,
    ] {
        refused(none, Unencodable::NotMessage);
    }
}

#[test]
fn claims_of_a_peer_are_believed_by_nobody() {
    let many = [0xff_u8; 9];
    // RESULT under the id 1.
    let result = [2, 2, 1];
    // Members, values, bytes that are claimed and do not come.
    for claim in [&[][..], &[3, 64, 20, head::LONG_ARRAY], &[3, 64, 20, head::LONG_STRING]] {
        let bytes = [&result[..], claim, &many].concat();
        assert!(decode(&bytes, LENGTH_MAX).is_err());
    }
    // A value shorter and longer than its length.
    for (length, value) in [(2, &[0][..]), (1, &[0x41, b'a'])] {
        let bytes = [&result[..], &[3, 64, length], value, &[0]].concat();
        assert!(decode(&bytes, LENGTH_MAX).is_err());
    }
    let deep = [&result[..], &[1], &[0x48, 0], &vec![head::ARRAY + 1; 10_000]].concat();
    assert!(decode(&deep, LENGTH_MAX).is_err());
    // A member twice, by number and by name; text that is none; a float that is none.
    for body in [
        &[4, 0, 1, 0, 0, 1, 0, 0][..],
        &[4, 0, 1, 0, 68, b'n', b'a', b'm', b'e', 1, 0, 0],
        &[3, 65, 0xff, 1, 0, 0],
        &[3, 0, 9, head::FLOAT, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0, 0],
        &[0, 0],
    ] {
        let bytes = [&result[..], body].concat();
        assert_eq!(decode(&bytes, LENGTH_MAX), Err(Violation::Compact.into()), "{body:?}");
    }
}
