//! Content of a key file.

use std::hint::black_box;

/// Maximum length of a key, in bytes; the rest of a longer file is not read, as in the C suite.
pub const KEY_MAX: usize = 4096;

/// Overwrites a secret; `black_box` keeps the compiler from removing the stores.
pub(super) fn wipe(secret: &mut [u8]) {
    secret.fill(0);
    black_box(secret);
}
