//! The adapters that a configuration may name. None is built in yet.

use std::path::Path;

use fanout_sdk::problem::Problem;

use super::{Adapters, SettingProblem};

/// The adapters that there are.
#[derive(Debug, Default)]
pub struct AdapterSet {}

impl AdapterSet {
    /// Brings them in, for [`super::load`].
    pub fn open_boxed(_: Option<&Path>) -> Box<dyn Adapters> {
        Box::new(AdapterSet::default())
    }
}

impl Adapters for AdapterSet {
    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn problems(&self) -> Vec<Problem> {
        Vec::new()
    }

    fn check(&self, _: &str, _: &str, _: &toml::Table) -> Vec<SettingProblem> {
        Vec::new()
    }
}
