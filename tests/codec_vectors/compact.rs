//! The content type `compact`: whatever goes in comes out.

use aip_codec::{
    DecodeError,
    aip::compact::{decode, encode},
};
use bytes::BytesMut;
use proptest::prelude::*;

/// A value of JSON as the decoder writes it.
fn value() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        Just("name".to_owned()),
        Just("uri".to_owned()),
        Just("inputSchema".to_owned()),
        "[a-z é😀$/.]{0,70}",
    ];
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        (-70i64..70).prop_map(|value| value.to_string()),
        any::<f64>()
            .prop_filter("JSON has no others", |f| f.is_finite())
            .prop_map(|f| format!("{f:?}")),
        "[ -!#-\\[\\]-~é😀]{0,300}".prop_map(|text| format!("\"{text}\"")),
        Just(r#""\n\r\t\b\f\u0000\u001f\"\\""#.to_owned()),
    ];
    leaf.prop_recursive(6, 200, 40, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..40)
                .prop_map(|v| format!("[{}]", v.join(","))),
            object(name.clone(), inner),
        ]
    })
}

fn object(
    name: impl Strategy<Value = String>,
    value: impl Strategy<Value = String>,
) -> impl Strategy<Value = String> {
    proptest::collection::btree_map(name, value, 0..40).prop_map(|members| {
        let members: Vec<_> = members.iter().map(|(n, v)| format!("\"{n}\":{v}")).collect();
        format!("{{{}}}", members.join(","))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_message_comes_back(value in value(), kind in 0..6) {
        let text = match kind {
            0 => format!(r#"{{"jsonrpc":"2.0","id":1,"result":{value}}}"#),
            1 => format!(r#"{{"jsonrpc":"2.0","id":"x","result":{{"tools":[{value}],"own":{value}}}}}"#),
            2 => format!(r#"{{"jsonrpc":"2.0","id":-1,"result":{{"resources":{value},"prompts":[{value}]}}}}"#),
            3 => format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{{"arguments":{value}}}}}"#),
            4 => format!(r#"{{"jsonrpc":"2.0","method":"m","params":{{"x":{value}}},"own":{value}}}"#),
            _ => format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":-1,"message":"m","data":{value}}}}}"#),
        };
        let mut bytes = BytesMut::new();
        prop_assert_eq!(encode(&text, &mut bytes), Ok(()));
        let decoded = decode(&bytes, usize::MAX);
        prop_assert_eq!(decoded.as_deref(), Ok(&*text));
        for cut in (0..bytes.len()).step_by(bytes.len() / 50 + 1) {
            prop_assert_eq!(decode(&bytes[..cut], usize::MAX), Err(DecodeError::Incomplete));
        }
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(text) = decode(&bytes, 10_000) {
            prop_assert!(text.len() <= 10_000);
            prop_assert_eq!(encode(&text, &mut BytesMut::new()), Ok(()));
        }
    }
}
