//! An adapter as a binary carries it: the texts of its folder, and its Rust code where it has some. It opens no file and
//! sends nothing.

use crate::destination::Destination;
use crate::manifest::{Manifest, Plan};
use crate::names::Names;
use crate::problem::Problem;

/// What a folder's Rust code gives: the destination, made from the manifest with one destination's settings put in.
pub type Code = fn(Plan) -> Box<dyn Destination>;

/// An adapter that is built into a binary.
#[derive(Clone, Copy, Debug)]
pub struct Adapter {
    /// Its folder's name, by which configurations name it: 1 to 64 of `a-z`, `0-9`, `_` and `-`.
    pub name: &'static str,
    /// The text of its `manifest.toml`.
    pub manifest: &'static str,
    /// The text of its `sandbox.json`, where its vendor does not simply answer 200 with `{}`.
    pub sandbox: Option<&'static str>,
    /// Its Rust code; `None` where the manifest says everything.
    pub code: Option<Code>,
}

impl Adapter {
    /// How messages name its manifest: `mixpanel/manifest.toml`.
    pub fn file(&self) -> String {
        format!("{}/manifest.toml", self.name)
    }

    /// Reads and checks its manifest. The paths it mentions are added to `names`, which every event must be made with.
    ///
    /// # Errors
    /// As [`Manifest::load`].
    pub fn load(&self, names: &mut Names) -> Result<Manifest, Vec<Problem>> {
        Manifest::load(&self.file(), self.manifest, names)
    }
}

/// The destination that a bound manifest makes with its adapter's code, or by itself.
pub fn destination(plan: Plan, code: Option<Code>) -> Box<dyn Destination> {
    match code {
        Some(code) => code(plan),
        None => Box::new(plan),
    }
}
