//! The paths that loaded manifests mention: every custom trait and context field gets a small number, so that an event
//! is searched for all of them once, when it is made, and no destination looks one up by name.

use std::collections::HashMap;

/// The number of a path in a [`Names`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NameId(pub(crate) u16);

/// Which object of a call a path starts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Root {
    /// The traits that are not reserved; members of `address`, `company` and `subscription` that are not reserved too.
    Custom,
    /// `context`
    Context,
}

/// The paths by number, and the numbers by path. Only ever added to.
#[derive(Clone, Debug, Default)]
pub struct Names {
    paths: Vec<(Root, Vec<String>)>,
    ids: HashMap<(Root, Vec<String>), NameId>,
}

impl Names {
    /// The number of a path; a new one where it has none yet. `None` when 65,535 are taken.
    pub fn intern(&mut self, root: Root, path: &[String]) -> Option<NameId> {
        let key = (root, path.to_vec());
        if let Some(id) = self.ids.get(&key) {
            return Some(*id);
        }
        let id = NameId(u16::try_from(self.paths.len()).ok().filter(|id| *id < u16::MAX)?);
        self.paths.push(key.clone());
        self.ids.insert(key, id);
        Some(id)
    }

    /// Every path with its number.
    pub fn iter(&self) -> impl Iterator<Item = (NameId, Root, &[String])> {
        self.paths.iter().enumerate().map(|(id, (root, path))| (NameId(id as u16), *root, path.as_slice()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }
}
