//! Extension of digests: H(message) gives H(message ‖ padding ‖ suffix) to whoever knows the length of
//! the message, for H = SHA-1, SHA-256 and SHA-512 (FIPS 180-4).

use fence_virt::fence::HashKind;
use sha2::digest::generic_array::GenericArray;

/// Block of a hash, in bytes.
fn block(kind: HashKind) -> usize {
    if kind == HashKind::Sha512 { 128 } else { 64 }
}

/// Padding of a message of this length, in bytes.
pub fn padding(kind: HashKind, length: usize) -> Vec<u8> {
    let field = block(kind) / 8;
    let zeros = (2 * block(kind) - (length + 1 + field) % block(kind)) % block(kind);
    let mut padding = vec![0x80];
    padding.resize(1 + zeros + field - 8, 0);
    padding.extend((length as u64 * 8).to_be_bytes());
    padding
}

/// Digest of message ‖ padding ‖ suffix, from the `digest` of a message of this length.
pub fn extend(kind: HashKind, digest: &[u8; 64], length: usize, suffix: &[u8]) -> [u8; 64] {
    let absorbed = length + padding(kind, length).len();
    let rest = [suffix, &padding(kind, absorbed + suffix.len())].concat();
    match kind {
        HashKind::Sha1 => {
            let mut state: [u32; 5] = words(digest, u32::from_be_bytes);
            sha1::compress(&mut state, &blocks(&rest));
            bytes(state, u32::to_be_bytes)
        }
        HashKind::Sha256 => {
            let mut state: [u32; 8] = words(digest, u32::from_be_bytes);
            sha2::compress256(&mut state, &blocks(&rest));
            bytes(state, u32::to_be_bytes)
        }
        HashKind::Sha512 => {
            let mut state: [u64; 8] = words(digest, u64::from_be_bytes);
            sha2::compress512(&mut state, &blocks(&rest));
            bytes(state, u64::to_be_bytes)
        }
        HashKind::None => panic!("there is no hash to extend"),
    }
}

fn blocks<N: sha2::digest::generic_array::ArrayLength<u8>>(bytes: &[u8]) -> Vec<GenericArray<u8, N>> {
    let blocks = bytes.chunks_exact(N::USIZE);
    assert!(blocks.remainder().is_empty());
    blocks.map(|block| GenericArray::clone_from_slice(block)).collect()
}

/// First words of a digest.
fn words<T, const COUNT: usize, const SIZE: usize>(digest: &[u8; 64], of: fn([u8; SIZE]) -> T) -> [T; COUNT] {
    std::array::from_fn(|at| of(digest[at * SIZE..][..SIZE].try_into().unwrap()))
}

/// Digest of these words, padded with zeros as on the wire.
fn bytes<T: Copy, const COUNT: usize, const SIZE: usize>(
    state: [T; COUNT],
    of: fn(T) -> [u8; SIZE],
) -> [u8; 64] {
    let mut digest = [0; 64];
    for (at, word) in state.into_iter().enumerate() {
        digest[at * SIZE..][..SIZE].copy_from_slice(&of(word));
    }
    digest
}
