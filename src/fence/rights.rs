use std::fmt;

use super::Operation;

/// Set of operations that a permission group allows. [`Operation::Devstatus`] needs no group, and
/// [`Operation::Null`] is never carried out: neither is ever in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights(u8);

impl Rights {
    /// Operations that groups decide about, each with its word in a configuration, in the order of messages.
    pub const OPERATIONS: [(Operation, &'static str); 5] = [
        (Operation::Status, "status"),
        (Operation::HostList, "list"),
        (Operation::Off, "off"),
        (Operation::Reboot, "reboot"),
        (Operation::On, "on"),
    ];

    /// Returns all operations.
    pub fn all() -> Rights {
        Rights::OPERATIONS.into_iter().map(|(operation, _)| operation).collect()
    }

    /// Finds the operation that a word means; case does not matter.
    pub fn operation_of(word: &str) -> Option<Operation> {
        let named = Rights::OPERATIONS.into_iter().find(|(_, known)| known.eq_ignore_ascii_case(word));
        named.map(|(operation, _)| operation)
    }

    /// Words of all operations.
    pub fn words() -> impl Iterator<Item = &'static str> {
        Rights::OPERATIONS.into_iter().map(|(_, word)| word)
    }

    /// Returns true if the operation is in the set.
    pub fn allow(self, operation: Operation) -> bool {
        self.0 & bit(operation) != 0
    }

    /// Returns true if all operations of the other set are in this one.
    pub fn cover(self, other: Rights) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns the operations of both sets.
    pub fn with(self, other: Rights) -> Rights {
        Rights(self.0 | other.0)
    }

    /// Returns the operations, in the order of messages.
    pub fn iter(self) -> impl Iterator<Item = Operation> {
        let operations = Rights::OPERATIONS.into_iter().map(|(operation, _)| operation);
        operations.filter(move |operation| self.allow(*operation))
    }

    /// True if it has all operations.
    pub fn is_all(self) -> bool {
        self == Rights::all()
    }
}

/// Without the key `allow` a group allows everything, as in the C daemon.
impl Default for Rights {
    fn default() -> Rights {
        Rights::all()
    }
}

impl FromIterator<Operation> for Rights {
    fn from_iter<T: IntoIterator<Item = Operation>>(operations: T) -> Rights {
        Rights(operations.into_iter().map(bit).fold(0, |bits, bit| bits | bit))
    }
}

/// Words of its operations, as in a configuration.
impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let allowed = Rights::OPERATIONS.into_iter().filter(|(operation, _)| self.allow(*operation));
        f.write_str(&allowed.map(|(_, word)| word).collect::<Vec<_>>().join(", "))
    }
}

fn bit(operation: Operation) -> u8 {
    match operation {
        Operation::Null | Operation::Devstatus => 0,
        Operation::Off | Operation::Reboot | Operation::On | Operation::Status | Operation::HostList => {
            1 << operation.to_wire()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_the_operations_that_it_was_made_of() {
        for (operation, word) in Rights::OPERATIONS {
            let one: Rights = [operation, Operation::Null, Operation::Devstatus].into_iter().collect();
            assert_eq!(
                (one.to_string().as_str(), Rights::operation_of(&word.to_uppercase())),
                (word, Some(operation))
            );
            for (other, _) in Rights::OPERATIONS {
                assert_eq!(one.allow(other), other == operation);
            }
            assert!(!one.is_all() && Rights::all().cover(one) && !one.cover(Rights::all()));
        }
        let all = Rights::all();
        assert_eq!(all.to_string(), "status, list, off, reboot, on");
        assert!(!all.allow(Operation::Null) && !all.allow(Operation::Devstatus));
        let some: Rights = [Operation::Off].into_iter().collect();
        let more = some.with([Operation::Status].into_iter().collect());
        assert_eq!(more.iter().collect::<Vec<_>>(), [Operation::Status, Operation::Off]);
        assert!(more.cover(some) && !some.cover(more) && Rights::default().is_all());
    }
}
