//! The licences of what is linked into the programs: their texts ask to be passed on with every copy.
//!
//! Cargo says which crates these are; the texts are in their sources, each text once, with the crates it is of. A crate
//! without a text is named with its licence's name alone.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The whole document, for the programs as built for `target`.
pub fn document(target: &str) -> Result<String, Box<dyn Error>> {
    let cargo = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .args(["--filter-platform", target])
        .output()?;
    if !cargo.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&cargo.stderr)).into());
    }
    let metadata: Value = serde_json::from_slice(&cargo.stdout)?;
    let linked = linked(&metadata);

    let mut crates = BTreeMap::new();
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in list(&metadata["packages"]).filter(|package| linked.contains(text(&package["id"]))) {
        let name = format!("{} {}", text(&package["name"]), text(&package["version"]));
        let source = Path::new(text(&package["manifest_path"])).parent().ok_or("a manifest without a directory")?;
        for licence in licences(source)? {
            texts.entry(licence).or_default().insert(name.clone());
        }
        let licence = package["license"].as_str().unwrap_or("see below");
        crates.insert(name, (licence.to_owned(), text(&package["repository"]).to_owned()));
    }

    let mut document = "The programs of sersync hold code of these Rust crates, and of Rust's standard library \
                        (MIT OR Apache-2.0, https://www.rust-lang.org).\n\n"
        .to_owned();
    for (name, (licence, repository)) in &crates {
        document += format!("{name}: {licence} {repository}").trim_end();
        document.push('\n');
    }
    for (text, of) in &texts {
        let of: Vec<&str> = of.iter().map(String::as_str).collect();
        document += &format!("\n{}\n{}\n\n{text}\n", "-".repeat(72), of.join(", "));
    }
    Ok(document)
}

/// The ids of all crates that are needed to run the programs, neither to build nor to test them; without sersync itself.
fn linked(metadata: &Value) -> BTreeSet<&str> {
    let nodes: BTreeMap<&str, &Value> =
        list(&metadata["resolve"]["nodes"]).map(|node| (text(&node["id"]), node)).collect();
    let root = text(&metadata["resolve"]["root"]);
    let (mut found, mut waiting) = (BTreeSet::new(), vec![root]);
    while let Some(id) = waiting.pop() {
        for dependency in nodes.get(id).into_iter().flat_map(|node| list(&node["deps"])) {
            let id = text(&dependency["pkg"]);
            let runs = list(&dependency["dep_kinds"]).any(|kind| kind["kind"].is_null());
            if runs && found.insert(id) {
                waiting.push(id);
            }
        }
    }
    found
}

/// The texts beside a crate's manifest.
fn licences(source: &Path) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let mut texts = BTreeSet::new();
    for entry in fs::read_dir(source)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        if path.is_file()
            && ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE"].iter().any(|start| name.starts_with(start))
        {
            let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            texts.insert(text.replace('\r', "").trim().to_owned());
        }
    }
    Ok(texts)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
