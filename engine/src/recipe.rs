//! Recipes: the text that says exactly what a step will do. The text that is hashed is the text that is shown.

use std::fmt::Write;

use pipe_cache::{Digest, Fields, Key};

use crate::artifact::Manifest;
use crate::graph::Step;
use crate::params::{canonical, semantic};
use crate::stage::{Reads, Resolution};
use crate::step::Ancestor;

/// An input whose content is known.
pub struct KnownInput<'a> {
    /// The port.
    pub port: &'a str,
    /// The label.
    pub label: &'a str,
    /// The artifact.
    pub digest: Digest,
    /// Its manifest.
    pub manifest: &'a Manifest,
}

/// The recipe of a step on these inputs.
#[must_use]
pub fn step_recipe(step: &Step, inputs: &[KnownInput<'_>], device: &str) -> String {
    let mut text = head(step, device);
    for input in by_port(inputs) {
        push_input(&mut text, step, input);
    }
    text
}

/// Inputs in order of port: the order in which the file names them means nothing. Within a port it does.
fn by_port<'a>(inputs: &'a [KnownInput<'a>]) -> Vec<&'a KnownInput<'a>> {
    let mut sorted: Vec<&KnownInput<'_>> = inputs.iter().collect();
    sorted.sort_by_key(|input| input.port);
    sorted
}

/// The recipe of one row of a row step: as that of the step, with the cells read left open.
#[must_use]
pub fn row_recipe(step: &Step, inputs: &[KnownInput<'_>], device: &str) -> String {
    let mut text = head(step, device);
    let port = step.primary_port();
    for input in by_port(inputs).into_iter().filter(|input| input.port != port) {
        push_input(&mut text, step, input);
    }
    line(&mut text, format_args!("row columns {}", row_columns(step).join(", ")));
    text
}

/// The columns a row or table step reads of the dataset it works on, in the order its rows have them.
#[must_use]
pub fn row_columns(step: &Step) -> &[String] {
    let port = step.primary_port();
    match step.contract.reads.get(port) {
        Some(Reads::Columns(columns)) => columns,
        _ => &[],
    }
}

/// The key of a recipe.
#[must_use]
pub fn key(recipe: &str) -> Key {
    Key::of(recipe.as_bytes())
}

/// The class of a device: `cuda` of `cuda:1`.
pub(crate) fn device_class(device: &str) -> &str {
    device.split(':').next().unwrap_or(device)
}

fn head(step: &Step, device: &str) -> String {
    let mut text = String::from("recipe/1\n");
    line(&mut text, format_args!("stage {}", step.stage.versioned()));
    for (name, value) in semantic(step.stage.params, &step.params) {
        line(&mut text, format_args!("param {name} {}", canonical(value)));
    }
    if step.stage.execute.is_torch() {
        line(&mut text, format_args!("device {}", device_class(device)));
    }
    if let Some(resolution) = &step.resolution {
        push_resolution(&mut text, resolution);
    }
    for output in &step.contract.outputs {
        line(&mut text, format_args!("gives {} {}", output.port, output.kind));
    }
    text
}

fn push_resolution(text: &mut String, resolution: &Resolution) {
    if !resolution.pin.is_empty() {
        line(text, format_args!("pin {}", resolution.pin));
    }
    // Never recorded: a run asks before anything executes.
    if let Some(moving) = resolution.moving.as_ref().filter(|moving| !moving.is_pinned) {
        line(text, format_args!("unpinned {}", moving.source));
    }
    if !resolution.files.is_empty() {
        let mut fields = Fields::new("source");
        for file in &resolution.files {
            fields.push(file.name.as_bytes()).push(file.digest.bytes());
        }
        line(text, format_args!("source {} of {} files", fields.digest(), resolution.files.len()));
    }
    for (name, _) in &resolution.unreadable {
        line(text, format_args!("unreadable {}", canonical(&name.as_str().into())));
    }
}

/// What a recipe says of the outside world.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outside {
    /// Its pin; empty where it has none.
    pub(crate) pin: String,
    /// Whether local files were taken.
    pub(crate) has_files: bool,
    /// The files that were there and could not be read.
    pub(crate) unreadable: Vec<String>,
}

/// Reads back what [`push_resolution`] wrote.
pub(crate) fn outside(recipe: &str) -> Outside {
    let mut outside = Outside::default();
    for line in recipe.lines() {
        match line.split_once(' ') {
            Some(("pin", pin)) => pin.clone_into(&mut outside.pin),
            Some(("source", _)) => outside.has_files = true,
            Some(("unreadable", name)) => outside.unreadable.extend(serde_json::from_str::<String>(name).ok()),
            _ => {}
        }
    }
    outside
}

/// Adds the steps that led here, for a step whose outputs tell of them.
pub fn push_lineage(text: &mut String, lineage: &[Ancestor]) {
    for ancestor in lineage {
        line(text, format_args!("from {} {} {}", ancestor.step, ancestor.stage, ancestor.key));
    }
}

fn push_input(text: &mut String, step: &Step, input: &KnownInput<'_>) {
    let reads = step.contract.reads.get(input.port).unwrap_or(&Reads::All);
    let what = input.manifest.projection(&input.digest, reads);
    let many = step.stage.inputs.iter().any(|port| (port.name == input.port || port.name == "*") && port.many);
    if many {
        line(text, format_args!("input {} {} {what}", input.port, canonical(&input.label.into())));
    } else {
        line(text, format_args!("input {} {what}", input.port));
    }
}

fn line(text: &mut String, what: std::fmt::Arguments<'_>) {
    writeln!(text, "{what}").expect("writing into a string cannot fail");
}
