//! The adapters that a configuration may name: those that are built into the binary and those of the operator's own
//! folder. It loads manifests and puts settings in; what they mean is the engine's business.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fanout_sdk::adapter::{self, Code};
use fanout_sdk::destination;
use fanout_sdk::manifest::Manifest;
use fanout_sdk::names::Names;
use fanout_sdk::problem::Problem;

use super::{Adapters, Destination, SettingProblem};

/// An adapter.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// Its folder's name, by which a configuration names it.
    pub name: String,
    /// What it does.
    pub manifest: Arc<Manifest>,
    /// Its folder; `None` for a built-in one.
    pub folder: Option<PathBuf>,
    code: Option<Code>,
}

impl Adapter {
    /// Puts a destination's settings in.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn bind(
        &self,
        destination: &str,
        settings: &toml::Table,
    ) -> Result<Box<dyn destination::Destination>, Vec<Problem>> {
        Ok(adapter::destination(self.manifest.bind(destination, settings)?, self.code))
    }
}

/// The adapters that there are, in the order of their names, and the paths that their manifests mention together.
#[derive(Debug, Default)]
pub struct AdapterSet {
    adapters: Vec<Adapter>,
    names: Names,
    /// The names of those whose manifest is wrong: they exist all the same.
    broken: Vec<String>,
    problems: Vec<Problem>,
}

impl AdapterSet {
    /// Loads the adapters that are built in and those of a folder, which holds a folder for each. A broken one becomes a
    /// problem and the others are there.
    pub fn open(built_in: &[adapter::Adapter], folder: Option<&Path>) -> AdapterSet {
        let mut set = AdapterSet::default();
        for adapter in built_in {
            set.load_built_in(adapter);
        }
        if let Some(folder) = folder {
            match manifests_in(folder) {
                Ok(manifests) => manifests.into_iter().for_each(|path| set.load_own(&path)),
                Err(error) => {
                    set.problem(folder, format!("`adapters_dir` cannot be read: {error}"), "check its path")
                }
            }
        }
        set.adapters.sort_by(|a, b| a.name.cmp(&b.name));
        set
    }

    /// As [`AdapterSet::open`], for [`super::load`].
    pub fn open_boxed(built_in: &[adapter::Adapter], folder: Option<&Path>) -> Box<dyn Adapters> {
        Box::new(AdapterSet::open(built_in, folder))
    }

    /// Every adapter, in the order of their names.
    pub fn all(&self) -> &[Adapter] {
        &self.adapters
    }

    /// The adapter of that name.
    pub fn get(&self, name: &str) -> Option<&Adapter> {
        self.adapters.iter().find(|adapter| adapter.name == name)
    }

    /// The paths that manifests mention; every event is made with them.
    pub fn paths(&self) -> &Names {
        &self.names
    }

    /// Puts a destination's settings into its adapter.
    ///
    /// # Errors
    /// Everything that is wrong with the settings; none after [`super::load`] found none.
    pub fn bind(&self, destination: &Destination) -> Result<Box<dyn destination::Destination>, Vec<Problem>> {
        match self.get(&destination.adapter) {
            Some(adapter) => adapter.bind(&destination.name, &destination.settings),
            None => {
                let message = format!("there is no adapter `{}`", destination.adapter);
                let remedy = "see `fanout adapters`".to_owned();
                Err(vec![Problem { file: String::new(), line: 0, column: 0, message, remedy }])
            }
        }
    }

    fn load_built_in(&mut self, adapter: &adapter::Adapter) {
        let file = adapter.file();
        if !super::read::is_name(adapter.name) {
            let message = format!("\"{}\" is no name for an adapter", adapter.name);
            return self.problem(Path::new(&file), message, "use 1 to 64 of `a-z`, `0-9`, `_` and `-`");
        }
        if self.is_taken(adapter.name) {
            let message = format!("two of the adapters built into this binary are called `{}`", adapter.name);
            return self.problem(
                Path::new(&file),
                message,
                "give one of them another name and build it again",
            );
        }
        let loaded = adapter.load(&mut self.names);
        self.add(adapter.name, loaded, None, adapter.code);
    }

    fn add(
        &mut self,
        name: &str,
        loaded: Result<Manifest, Vec<Problem>>,
        folder: Option<PathBuf>,
        code: Option<Code>,
    ) {
        match loaded {
            Ok(manifest) => {
                let manifest = Arc::new(manifest);
                self.adapters.push(Adapter { name: name.to_owned(), manifest, folder, code });
            }
            Err(problems) => {
                self.broken.push(name.to_owned());
                self.problems.extend(problems);
            }
        }
    }

    fn is_taken(&self, name: &str) -> bool {
        self.get(name).is_some() || self.broken.iter().any(|broken| broken == name)
    }

    fn load_own(&mut self, path: &Path) {
        let folder = path.parent().unwrap_or(path);
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !super::read::is_name(name) {
            self.problem(
                folder,
                format!("\"{name}\" is no name for an adapter"),
                "use 1 to 64 of `a-z`, `0-9`, `_` and `-`",
            );
            return;
        }
        if self.is_taken(name) {
            self.problem(
                folder,
                format!("there is a built-in adapter `{name}`"),
                "give the folder another name",
            );
            return;
        }
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let loaded = adapter::load(&path.display().to_string(), &text, None, &mut self.names);
                self.add(name, loaded, Some(folder.to_owned()), None);
            }
            Err(error) => {
                self.problem(path, format!("the manifest cannot be read: {error}"), "check who may read it")
            }
        }
    }

    fn problem(&mut self, path: &Path, message: String, remedy: &str) {
        let file = path.display().to_string();
        self.problems.push(Problem { file, line: 0, column: 0, message, remedy: remedy.to_owned() });
    }
}

/// The manifests of a folder's folders, in order.
fn manifests_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut manifests = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let manifest = entry?.path().join("manifest.toml");
        if manifest.is_file() {
            manifests.push(manifest);
        }
    }
    manifests.sort();
    Ok(manifests)
}

impl Adapters for AdapterSet {
    fn names(&self) -> Vec<String> {
        let whole = self.adapters.iter().map(|adapter| &adapter.name);
        whole.chain(&self.broken).cloned().collect()
    }

    fn problems(&self) -> Vec<Problem> {
        self.problems.clone()
    }

    fn check(&self, adapter: &str, destination: &str, settings: &toml::Table) -> Vec<SettingProblem> {
        let Some(adapter) = self.get(adapter) else { return Vec::new() };
        match adapter.bind(destination, settings) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.into_iter().map(|problem| locate(problem, destination)).collect(),
        }
    }
}

/// The engine names the setting in its words, `setting NAME …` or `unknown setting NAME`, and no place.
fn locate(problem: Problem, destination: &str) -> SettingProblem {
    let message =
        problem.message.strip_prefix(&format!("destination {destination}: ")).unwrap_or(&problem.message);
    let named = message.split_once("setting ").and_then(|(_, rest)| rest.split([' ', ';', ':']).next());
    SettingProblem {
        path: named.map(str::to_owned).into_iter().collect(),
        message: message.to_owned(),
        remedy: problem.remedy,
    }
}

#[cfg(test)]
mod tests {
    use fanout_sdk::manifest::Plan;

    use super::*;

    const ACME: &str = r#"
adapter = { name = "Acme", docs = "https://example.com", checked = "2026-07" }
[settings]
key = { type = "secret", doc = "API key" }
region = { type = "choice", choices = ["us", "eu"], default = "us", doc = "Where" }
[identity]
key = ["{user_id}"]
[[request]]
url = "https://example.com/{settings.region}"
headers = { Authorization = "Bearer {settings.key}" }
body = { id = "{identity}", mail = "{traits.email}" }
"#;

    fn coded() -> String {
        let request = "[[request]]\n";
        let rule = "outcomes = [{ status = 409, then = \"tell:known\" }]\n";
        ACME.replacen(request, &format!("[code]\nwords = [\"known\"]\n{request}{rule}"), 1)
    }

    fn folder_with(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    fn messages(problems: &[Problem]) -> Vec<&str> {
        problems.iter().map(|problem| problem.message.as_str()).collect()
    }

    #[test]
    fn built_in_and_own_adapters_stand_side_by_side() {
        let folder = folder_with(&[("acme/manifest.toml", ACME), ("notes.txt", ""), ("empty/readme.md", "")]);
        let set = AdapterSet::open(fanout_destinations::builtin(), Some(folder.path()));
        assert_eq!(messages(&set.problems), Vec::<&str>::new());
        assert!(set.all().is_sorted_by_key(|adapter| &adapter.name));
        assert_eq!(set.get("acme").unwrap().folder.as_deref(), Some(folder.path().join("acme").as_path()));
        assert_eq!(set.get("mixpanel").unwrap().folder, None);
        assert_eq!(set.all().len(), fanout_destinations::builtin().len() + 1);
    }

    #[test]
    fn what_is_wrong_with_a_folder_is_told() {
        let folder = folder_with(&[
            ("mixpanel/manifest.toml", ACME),
            ("My Own/manifest.toml", ACME),
            ("broken/manifest.toml", "adapter = 1"),
            ("coded/manifest.toml", &coded()),
        ]);
        let set = AdapterSet::open(fanout_destinations::builtin(), Some(folder.path()));
        let messages = messages(&set.problems);
        assert!(messages.contains(&"there is a built-in adapter `mixpanel`"), "{messages:?}");
        assert!(messages.contains(&"\"My Own\" is no name for an adapter"), "{messages:?}");
        assert!(
            set.problems
                .iter()
                .any(|problem| problem.file.ends_with("broken/manifest.toml") && problem.line > 0)
        );
        let needs_code = set.problems.iter().find(|problem| problem.file.ends_with("coded/manifest.toml"));
        let needs_code = needs_code.unwrap();
        assert_eq!(needs_code.message, "the manifest has a section [code], and no Rust code goes with it");
        assert!(needs_code.remedy.contains("examples/rust-adapter"), "{}", needs_code.remedy);
        assert!(set.get("broken").is_none() && set.names().contains(&"broken".to_owned()));
        let gone = AdapterSet::open(fanout_destinations::builtin(), Some(&folder.path().join("gone")));
        assert!(gone.problems[0].message.starts_with("`adapters_dir` cannot be read"), "{:?}", gone.problems);
    }

    fn as_it_is(plan: Plan) -> Box<dyn destination::Destination> {
        Box::new(plan)
    }

    fn binary_with(own: adapter::Adapter) -> AdapterSet {
        let built_in: Vec<_> = fanout_destinations::builtin().iter().copied().chain([own]).collect();
        AdapterSet::open(&built_in, None)
    }

    #[test]
    fn a_binary_may_carry_adapters_of_its_own() {
        let coded: &'static str = coded().leak();
        let acme = adapter::Adapter { name: "acme", manifest: coded, sandbox: None, code: Some(as_it_is) };
        let set = binary_with(acme);
        assert_eq!(messages(&set.problems), Vec::<&str>::new());
        assert!(set.get("acme").unwrap().bind("mine", &"key = 'k'".parse().unwrap()).is_ok());

        for (name, message) in [
            ("mixpanel", "two of the adapters built into this binary are called `mixpanel`"),
            ("My Own", "\"My Own\" is no name for an adapter"),
        ] {
            let set = binary_with(adapter::Adapter { name, ..acme });
            assert_eq!(messages(&set.problems), [message]);
            assert_eq!(set.problems[0].file, format!("{name}/manifest.toml"));
        }
        let set = binary_with(adapter::Adapter { code: None, ..acme });
        assert_eq!(
            messages(&set.problems),
            ["the manifest has a section [code], and no Rust code goes with it"]
        );
    }

    #[test]
    fn the_engines_words_lead_to_the_setting() {
        let folder = folder_with(&[("acme/manifest.toml", ACME)]);
        let set = AdapterSet::open(fanout_destinations::builtin(), Some(folder.path()));
        for (settings, path, message) in [
            ("", "key", "setting key is missing"),
            ("key = 'k'\nregon = 'us'", "regon", "unknown setting regon"),
            ("key = 'k'\nregion = 'asia'", "region", "setting region is asia; allowed: us, eu"),
            ("key = 5", "key", "setting key must be a text"),
        ] {
            let problems = set.check("acme", "mine", &settings.parse().unwrap());
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert_eq!(
                (problems[0].path.join("."), problems[0].message.as_str()),
                (path.to_owned(), message)
            );
        }
        assert_eq!(set.check("acme", "mine", &"key = 'k'".parse().unwrap()), []);
    }
}
