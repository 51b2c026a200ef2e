/// Version of the protocol in which a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireVersion {
    /// That of the C suite (docs/WIRE.md), and of serial lines.
    One,
    /// That of this suite alone (docs/WIRE-2.md).
    Two,
}
