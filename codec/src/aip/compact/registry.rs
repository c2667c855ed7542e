//! Numbers of the names that members of MCP's messages have.

/// The names with the numbers 0 to 63. Never changed: it would be another content type.
pub(super) const NAMES: [&str; 64] = [
    "name",
    "title",
    "description",
    "type",
    "text",
    "uri",
    "mimeType",
    "content",
    "contents",
    "structuredContent",
    "isError",
    "_meta",
    "arguments",
    "cursor",
    "nextCursor",
    "tools",
    "prompts",
    "resources",
    "resourceTemplates",
    "uriTemplate",
    "inputSchema",
    "outputSchema",
    "properties",
    "required",
    "additionalProperties",
    "$schema",
    "items",
    "enum",
    "default",
    "annotations",
    "readOnlyHint",
    "destructiveHint",
    "idempotentHint",
    "openWorldHint",
    "progressToken",
    "progress",
    "total",
    "message",
    "messages",
    "role",
    "resource",
    "blob",
    "data",
    "level",
    "logger",
    "ref",
    "argument",
    "value",
    "completion",
    "values",
    "hasMore",
    "resultType",
    "ttlMs",
    "cacheScope",
    "inputRequests",
    "inputResponses",
    "requestState",
    "io.modelcontextprotocol/protocolVersion",
    "io.modelcontextprotocol/clientInfo",
    "io.modelcontextprotocol/clientCapabilities",
    "io.modelcontextprotocol/subscriptionId",
    "io.modelcontextprotocol/logLevel",
    "icons",
    "version",
];

/// From here on: a name of so many bytes more than this, which follow.
pub(super) const INLINE: u64 = NAMES.len() as u64;

/// The number of a name.
pub(super) fn number_of(name: &str) -> Option<u64> {
    // 64 short names: a look at each is faster than a hash of most.
    let place = NAMES.iter().position(|known| known.len() == name.len() && *known == name)?;
    Some(place as u64)
}

/// The name of a number; `None` if its name stands inline.
pub(super) fn name_of(number: u64) -> Option<&'static str> {
    NAMES.get(usize::try_from(number).ok()?).copied()
}

/// Which members an object has had; a member twice is found at its end.
#[derive(Debug, Default)]
pub(super) struct Seen<N> {
    numbered: u64,
    named: Vec<N>,
    twice: bool,
}

impl<N: Default + Ord> Seen<N> {
    /// A member with a number below 64.
    pub(super) const fn number(&mut self, number: u64) {
        self.twice |= self.numbered & 1 << number != 0;
        self.numbered |= 1 << number;
    }

    /// A member with another name.
    pub(super) fn name(&mut self, name: N) {
        self.named.push(name);
    }

    /// Whether each was there once.
    pub(super) fn are_distinct(mut self) -> bool {
        self.named.sort_unstable();
        !self.twice && self.named.windows(2).all(|pair| pair[0] != pair[1])
    }
}
