//! Token aliases that the peer has registered with us (draft-22 section 8.9).

use std::collections::BTreeMap;

use aip_codec::moqt::token::Token;
use bytes::Bytes;

use super::error::Misbehavior;

/// Bytes that a registered token counts beyond its value.
const TOKEN_OVERHEAD: u64 = 16;

/// A token, aliases resolved.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuthToken {
    /// What kind of token it is: 0 out of band, 1 C4M.
    pub token_type: u64,
    /// The token.
    pub value: Bytes,
}

/// What becomes of a token in a message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Resolved {
    /// It says who asks.
    Token(AuthToken),
    /// It only managed the cache.
    Nothing,
    /// It used an alias that is not there: the request is refused.
    UnknownAlias,
}

/// The peer's aliases, bounded by what our SETUP allowed.
#[derive(Debug)]
pub(crate) struct TokenCache {
    tokens: BTreeMap<u64, AuthToken>,
    size: u64,
    size_max: u64,
}

impl TokenCache {
    pub(crate) const fn new(size_max: u64) -> Self {
        Self { tokens: BTreeMap::new(), size: 0, size_max }
    }

    /// A token of SETUP: an overflowing REGISTER counts as USE_VALUE.
    pub(crate) fn resolve_in_setup(
        &mut self,
        token: Token,
        from_client: bool,
    ) -> Result<Resolved, Misbehavior> {
        match token {
            Token::Delete { .. } | Token::UseAlias { .. } if from_client => {
                Err(Misbehavior::TokenAliasInSetup)
            }
            Token::Register { token_type, value, .. }
                if self.size_max < self.size + TOKEN_OVERHEAD + value.len() as u64 =>
            {
                Ok(Resolved::Token(AuthToken { token_type, value }))
            }
            other => self.resolve(other),
        }
    }

    /// A token of a request. REGISTER takes effect even if the request is refused later.
    pub(crate) fn resolve(&mut self, token: Token) -> Result<Resolved, Misbehavior> {
        match token {
            Token::UseValue { token_type, value } => {
                Ok(Resolved::Token(AuthToken { token_type, value }))
            }
            Token::UseAlias { alias } => Ok(self
                .tokens
                .get(&alias)
                .map_or(Resolved::UnknownAlias, |token| Resolved::Token(token.clone()))),
            Token::Delete { alias } => {
                let token = self.tokens.remove(&alias).ok_or(Misbehavior::UnknownTokenAlias)?;
                self.size -= TOKEN_OVERHEAD + token.value.len() as u64;
                Ok(Resolved::Nothing)
            }
            Token::Register { alias, token_type, value } => {
                self.register(alias, AuthToken { token_type, value })
            }
        }
    }

    fn register(&mut self, alias: u64, token: AuthToken) -> Result<Resolved, Misbehavior> {
        if self.tokens.contains_key(&alias) {
            return Err(Misbehavior::DuplicateTokenAlias);
        }
        let size = self.size + TOKEN_OVERHEAD + token.value.len() as u64;
        if self.size_max < size {
            return Err(Misbehavior::TokenCacheOverflow);
        }
        self.size = size;
        // A small copy, so that an alias does not pin the chunk that it came in.
        let kept = AuthToken { token_type: token.token_type, value: token.value.to_vec().into() };
        self.tokens.insert(alias, kept);
        Ok(Resolved::Token(token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(alias: u64, length: usize) -> Token {
        Token::Register { alias, token_type: 1, value: Bytes::from(vec![7; length]) }
    }

    #[test]
    fn overflow_ends_the_session_but_not_in_setup() {
        let mut cache = TokenCache::new(40);
        assert!(matches!(cache.resolve_in_setup(register(1, 25), true), Ok(Resolved::Token(_))));
        assert_eq!(cache.resolve(Token::UseAlias { alias: 1 }), Ok(Resolved::UnknownAlias));
        assert!(cache.resolve(register(1, 24)).is_ok());
        assert_eq!(cache.resolve(register(2, 0)), Err(Misbehavior::TokenCacheOverflow));
    }

    #[test]
    fn an_alias_lives_until_it_is_deleted() {
        let mut cache = TokenCache::new(100);
        assert!(cache.resolve(register(1, 3)).is_ok());
        assert_eq!(cache.resolve(register(1, 3)), Err(Misbehavior::DuplicateTokenAlias));
        assert_eq!(cache.resolve(Token::Delete { alias: 1 }), Ok(Resolved::Nothing));
        assert_eq!(cache.resolve(Token::Delete { alias: 1 }), Err(Misbehavior::UnknownTokenAlias));
        assert!(cache.resolve(register(1, 84)).is_ok(), "deleting gives the room back");
    }

    #[test]
    fn a_client_has_no_aliases_in_setup() {
        let mut cache = TokenCache::new(100);
        assert_eq!(
            cache.resolve_in_setup(Token::UseAlias { alias: 1 }, true),
            Err(Misbehavior::TokenAliasInSetup)
        );
    }
}
