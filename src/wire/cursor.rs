/// Reader of fixed-size fields from the front of a buffer.
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { rest: bytes }
    }

    /// Takes the next `N` bytes; zeros past the end, which the callers' array types exclude.
    pub(super) fn take<const N: usize>(&mut self) -> [u8; N] {
        debug_assert!(self.rest.len() >= N);
        let mut out = [0; N];
        let (head, rest) = self.rest.split_at(N.min(self.rest.len()));
        out[..head.len()].copy_from_slice(head);
        self.rest = rest;
        out
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }
}

#[cfg(feature = "daemon")]
/// Returns the text before the first NUL, if it is printable and has at most `max` bytes.
pub(super) fn text(field: &[u8], max: usize) -> Option<&str> {
    let bytes = field.split(|&byte| byte == 0).next().filter(|bytes| bytes.len() <= max)?;
    std::str::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control))
}
