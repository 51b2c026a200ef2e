//! Map of a few entries: most VMs have one copy, and a tree keeps room for eleven.

/// Entries in the order of their keys, without spare room.
#[derive(Debug, Clone)]
pub(super) struct SmallMap<K, V>(Vec<(K, V)>);

impl<K, V> Default for SmallMap<K, V> {
    fn default() -> SmallMap<K, V> {
        SmallMap(Vec::new())
    }
}

impl<K: Ord + Copy, V> SmallMap<K, V> {
    fn place(&self, key: K) -> Result<usize, usize> {
        self.0.binary_search_by_key(&key, |(key, _)| *key)
    }

    pub(super) fn get(&self, key: K) -> Option<&V> {
        self.place(key).ok().map(|at| &self.0[at].1)
    }

    pub(super) fn get_mut(&mut self, key: K) -> Option<&mut V> {
        self.place(key).ok().map(|at| &mut self.0[at].1)
    }

    /// Returns the value of a key; one that was not there is the default.
    pub(super) fn get_or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        let at = self.place(key).unwrap_or_else(|at| self.add(at, key, V::default()));
        &mut self.0[at].1
    }

    /// Sets a value; returns the one before.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.place(key) {
            Ok(at) => Some(std::mem::replace(&mut self.0[at].1, value)),
            Err(at) => {
                self.add(at, key, value);
                None
            }
        }
    }

    fn add(&mut self, at: usize, key: K, value: V) -> usize {
        self.0.reserve_exact(1);
        self.0.insert(at, (key, value));
        at
    }

    pub(super) fn remove(&mut self, key: K) -> Option<V> {
        self.place(key).ok().map(|at| self.0.remove(at).1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.iter().map(|(key, _)| key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.0.iter().map(|(key, value)| (*key, value))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (K, &mut V)> {
        self.0.iter_mut().map(|(key, value)| (*key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_in_the_order_of_their_keys() {
        let mut map = SmallMap::default();
        for key in [3, 1, 2] {
            assert_eq!(map.insert(key, key * 10), None);
        }
        assert_eq!(map.insert(2, 21), Some(20));
        *map.get_or_default(4) += 40;
        map.iter_mut().filter(|(key, _)| *key == 1).for_each(|(_, value)| *value += 1);
        assert_eq!(map.remove(3), Some(30));
        assert_eq!(map.remove(3), None);
        assert!(map.get(3).is_none() && map.get_mut(3).is_none());
        assert_eq!(
            map.iter().map(|(key, &value)| (key, value)).collect::<Vec<_>>(),
            [(1, 11), (2, 21), (4, 40)]
        );
        assert_eq!(map.keys().collect::<Vec<_>>(), [&1, &2, &4]);
        assert!(!map.is_empty() && SmallMap::<u8, u8>::default().is_empty());
    }
}
