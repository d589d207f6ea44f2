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
    /// How messages name its manifest: `acme/manifest.toml`.
    pub fn file(&self) -> String {
        format!("{}/manifest.toml", self.name)
    }

    /// Reads and checks its manifest. The paths it mentions are added to `names`, which every event must be made with.
    ///
    /// # Errors
    /// As [`load`].
    pub fn load(&self, names: &mut Names) -> Result<Manifest, Vec<Problem>> {
        load(&self.file(), self.manifest, self.code, names)
    }
}

/// Reads and checks a manifest that goes with this code, or with none. The paths it mentions are added to `names`, which
/// every event must be made with.
///
/// # Errors
/// Everything that is wrong with it, in the order of the file; or that it is written for code where there is none.
pub fn load(
    file_name: &str,
    manifest: &str,
    code: Option<Code>,
    names: &mut Names,
) -> Result<Manifest, Vec<Problem>> {
    let manifest = Manifest::load(file_name, manifest, names)?;
    if manifest.needs_code() && code.is_none() {
        return Err(vec![Problem {
            file: file_name.to_owned(),
            line: 0,
            column: 0,
            message: "the manifest has a section [code], and no Rust code goes with it".to_owned(),
            remedy: "Rust code comes with a binary that is built with it, never from a folder: build one as \
                     examples/rust-adapter does, or remove [code] and what belongs to it"
                .to_owned(),
        }]);
    }
    Ok(manifest)
}

/// The destination that a bound manifest makes with its adapter's code, or by itself.
pub fn destination(plan: Plan, code: Option<Code>) -> Box<dyn Destination> {
    match code {
        Some(code) => code(plan),
        None => Box::new(plan),
    }
}
