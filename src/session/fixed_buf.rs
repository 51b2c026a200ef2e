/// Buffer for exactly `N` bytes that arrive in pieces.
#[derive(Debug)]
pub(super) struct FixedBuf<const N: usize> {
    bytes: [u8; N],
    filled: usize,
}

impl<const N: usize> FixedBuf<N> {
    pub(super) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Moves the missing bytes from the front of `input`; returns all `N` once they are complete.
    pub(super) fn take(&mut self, input: &mut &[u8]) -> Option<&[u8; N]> {
        let missing = input.len().min(N - self.filled);
        let (head, rest) = input.split_at(missing);
        self.bytes[self.filled..self.filled + missing].copy_from_slice(head);
        self.filled += missing;
        *input = rest;
        (self.filled == N).then_some(&self.bytes)
    }
}

impl<const N: usize> Default for FixedBuf<N> {
    fn default() -> FixedBuf<N> {
        FixedBuf { bytes: [0; N], filled: 0 }
    }
}
