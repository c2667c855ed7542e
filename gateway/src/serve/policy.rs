//! Whether a result may be published, and how long it is good.

use std::time::Duration;

use serde::Deserialize;

/// What is decided about a result.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// It is for everybody, for so long; `None` is until the server tells of a change.
    Publish {
        /// How long.
        expires: Option<Duration>,
    },
    /// It is for who asked alone: agents have to call.
    Call(&'static str),
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Hints {
    result_type: Option<String>,
    ttl_ms: Option<f64>,
    cache_scope: Option<String>,
}

/// Decides. `notified`: the server tells of every change of it; `default_ttl` is for results of
/// which nothing else is known.
pub(super) fn judge(result: &str, notified: bool, default_ttl: Duration) -> Verdict {
    let Ok(hints) = serde_json::from_str::<Hints>(result) else {
        return Verdict::Call("its caching hints make no sense");
    };
    if hints.result_type.as_deref().is_some_and(|kind| kind != "complete") {
        return Verdict::Call("the server wants input first");
    }
    if hints.cache_scope.as_deref().is_some_and(|scope| scope != "public") {
        return Verdict::Call("it is private");
    }
    let expires = match hints.ttl_ms {
        Some(ttl) if 0.0 < ttl => {
            Some(Duration::try_from_secs_f64(ttl / 1_000.0).unwrap_or(Duration::MAX))
        }
        Some(_) => Some(Duration::ZERO),
        None => (!notified).then_some(default_ttl),
    };
    Verdict::Publish { expires }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(result: &str, notified: bool, expected: Option<Option<u64>>) {
        let verdict = judge(result, notified, Duration::from_millis(1_000));
        match expected {
            Some(expires) => assert_eq!(
                verdict,
                Verdict::Publish { expires: expires.map(Duration::from_millis) }
            ),
            None => assert!(matches!(verdict, Verdict::Call(_)), "{verdict:?}"),
        }
    }

    #[test]
    fn hints_rule_and_silence_is_short() {
        check(r#"{"tools":[]}"#, true, Some(None));
        check(r#"{"tools":[]}"#, false, Some(Some(1_000)));
        check(
            r#"{"resultType":"complete","ttlMs":250,"cacheScope":"public"}"#,
            true,
            Some(Some(250)),
        );
        check(r#"{"ttlMs":0}"#, true, Some(Some(0)));
        check(r#"{"ttlMs":-5}"#, true, Some(Some(0)));
        let forever = judge(r#"{"ttlMs":1e300}"#, true, Duration::ZERO);
        assert_eq!(forever, Verdict::Publish { expires: Some(Duration::MAX) });
    }

    #[test]
    fn what_is_not_for_everybody_is_not_published() {
        check(r#"{"cacheScope":"private","ttlMs":5}"#, true, None);
        check(r#"{"cacheScope":"secret"}"#, true, None);
        check(r#"{"resultType":"input_required"}"#, true, None);
        check(r#"{"ttlMs":"x"}"#, true, None);
    }
}
