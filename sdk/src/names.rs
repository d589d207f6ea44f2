//! The paths that loaded manifests mention: every custom trait and context field gets a small number, so that an event
//! is searched for all of them once, when it is made, and no destination looks one up by name.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::json::Json;

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
    custom: Branch,
    context: Branch,
}

/// The paths once more, as a tree over their parts: what an event is searched by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Branch {
    id: Option<NameId>,
    children: HashMap<Box<str>, Branch, BuildHasherDefault<Quick>>,
}

/// A hash without a key. What is hashed for the map is what manifests name, so no caller can make it slow.
#[derive(Clone, Debug, Default)]
struct Quick(u64);

impl Hasher for Quick {
    fn finish(&self) -> u64 {
        // The map wants good bits at both ends.
        self.0 ^ self.0.rotate_left(29)
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut last = [0; 8];
        last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        for word in words.iter().chain([&last]) {
            self.0 = (self.0 ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.0 ^= u64::from(byte);
    }
}

impl Branch {
    /// The paths that go on with this part.
    pub(crate) fn child(&self, part: &str) -> Option<&Branch> {
        if self.children.is_empty() { None } else { self.children.get(part) }
    }

    /// Notes the positions of a value and of whatever inside it has a number; an element of a list goes by its
    /// position, counted from 0.
    pub(crate) fn note(&self, value: Json<'_>, named: &mut [u32]) {
        if let Some(slot) = self.id.and_then(|id| named.get_mut(id.0 as usize)) {
            *slot = value.position() + 1;
        }
        if self.children.is_empty() {
            return;
        }
        for (key, member) in value.members() {
            if let Some(branch) = self.children.get(&*key) {
                branch.note(member, named);
            }
        }
        for (at, element) in value.elements().enumerate() {
            if let Some(branch) = self.children.get(&*at.to_string()) {
                branch.note(element, named);
            }
        }
    }
}

impl Names {
    /// The number of a path; a new one where it has none yet. A part is a member's exact name, or the position in a
    /// list, counted from 0. `None` when 65,535 are taken.
    pub fn intern(&mut self, root: Root, path: &[String]) -> Option<NameId> {
        let key = (root, path.to_vec());
        if let Some(id) = self.ids.get(&key) {
            return Some(*id);
        }
        let id = NameId(u16::try_from(self.paths.len()).ok().filter(|id| *id < u16::MAX)?);
        let mut branch = match root {
            Root::Custom => &mut self.custom,
            Root::Context => &mut self.context,
        };
        for part in path {
            branch = branch.children.entry(part.as_str().into()).or_default();
        }
        branch.id = Some(id);
        self.paths.push(key.clone());
        self.ids.insert(key, id);
        Some(id)
    }

    /// Every path with its number.
    pub fn iter(&self) -> impl Iterator<Item = (NameId, Root, &[String])> {
        self.paths.iter().enumerate().map(|(id, (root, path))| (NameId(id as u16), *root, path.as_slice()))
    }

    /// Where a search in one of a call's objects begins.
    pub(crate) fn branch(&self, root: Root) -> &Branch {
        match root {
            Root::Custom => &self.custom,
            Root::Context => &self.context,
        }
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
