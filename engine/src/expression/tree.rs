//! Walks over parsed expressions: which variables they use and what they compute with.

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, operators};

/// A variable and the fields taken of it: `image.width`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// The variable.
    pub variable: String,
    /// The fields, from the outermost.
    pub fields: Vec<String>,
    /// Whether it is only asked if the last field is there: `has(image.width)`.
    pub asked: bool,
}

/// The names of the arithmetic that mixes integers and floats, by the operator each stands for.
pub const ARITHMETIC: &[(&str, &str)] = &[
    (operators::ADD, "@add"),
    (operators::SUBSTRACT, "@subtract"),
    (operators::MULTIPLY, "@multiply"),
    (operators::DIVIDE, "@divide"),
];

/// Calls `visit` on every direct part of an expression.
pub(super) fn each_part<'a>(tree: &'a IdedExpr, visit: &mut dyn FnMut(&'a IdedExpr)) {
    match &tree.expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => {}
        Expr::Call(CallExpr { target, args, .. }) => target.iter().map(|t| &**t).chain(args).for_each(visit),
        Expr::Select(select) => visit(&select.operand),
        Expr::List(list) => list.elements.iter().for_each(visit),
        Expr::Map(map) => map.entries.iter().for_each(|entry| each_entry(&entry.expr, visit)),
        Expr::Struct(value) => value.entries.iter().for_each(|entry| each_entry(&entry.expr, visit)),
        Expr::Comprehension(all) => {
            [&all.iter_range, &all.accu_init, &all.loop_cond, &all.loop_step, &all.result].into_iter().for_each(visit);
        }
    }
}

fn each_entry<'a>(entry: &'a EntryExpr, visit: &mut dyn FnMut(&'a IdedExpr)) {
    match entry {
        EntryExpr::StructField(field) => visit(&field.value),
        EntryExpr::MapEntry(pair) => {
            visit(&pair.key);
            visit(&pair.value);
        }
    }
}

/// Gathers the paths whose variable is not bound by a comprehension around them, each as long as it is written.
pub fn collect_paths<'a>(tree: &'a IdedExpr, bound: &mut Vec<&'a str>, paths: &mut Vec<Path>) {
    if let Some(path) = path_of(tree) {
        if !bound.contains(&path.variable.as_str()) {
            paths.push(path);
        }
        return;
    }
    match &tree.expr {
        Expr::Comprehension(all) => {
            collect_paths(&all.iter_range, bound, paths);
            collect_paths(&all.accu_init, bound, paths);
            let outside = bound.len();
            bound.extend([all.iter_var.as_str(), all.accu_var.as_str()]);
            bound.extend(all.iter_var2.as_deref());
            for part in [&all.loop_cond, &all.loop_step, &all.result] {
                collect_paths(part, bound, paths);
            }
            bound.truncate(outside);
        }
        _ => each_part(tree, &mut |part| collect_paths(part, bound, paths)),
    }
}

/// The path that an expression is, if it is nothing else.
fn path_of(tree: &IdedExpr) -> Option<Path> {
    match &tree.expr {
        Expr::Ident(name) => Some(Path { variable: name.clone(), fields: Vec::new(), asked: false }),
        Expr::Select(select) => {
            let mut path = path_of(&select.operand)?;
            path.fields.push(select.field.clone());
            path.asked |= select.test;
            Some(path)
        }
        _ => None,
    }
}

/// The operator that a mixing function stands for, or the name as it is.
pub(super) fn operator_of(name: &str) -> &str {
    ARITHMETIC.iter().find(|(_, mixing)| *mixing == name).map_or(name, |(operator, _)| operator)
}

/// Has integers and floats mix in arithmetic, which the language itself refuses.
pub fn mix_numbers(tree: &mut IdedExpr) {
    match &mut tree.expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => {}
        Expr::Call(call) => {
            if let Some((_, mixing)) = ARITHMETIC.iter().find(|(operator, _)| *operator == call.func_name) {
                call.func_name = (*mixing).to_owned();
            }
            call.target.iter_mut().for_each(|target| mix_numbers(target));
            call.args.iter_mut().for_each(mix_numbers);
        }
        Expr::Select(select) => mix_numbers(&mut select.operand),
        Expr::List(list) => list.elements.iter_mut().for_each(mix_numbers),
        Expr::Map(map) => map.entries.iter_mut().for_each(|entry| mix_entry(&mut entry.expr)),
        Expr::Struct(value) => value.entries.iter_mut().for_each(|entry| mix_entry(&mut entry.expr)),
        Expr::Comprehension(all) => {
            [&mut all.iter_range, &mut all.accu_init, &mut all.loop_cond, &mut all.loop_step, &mut all.result]
                .into_iter()
                .for_each(mix_numbers);
        }
    }
}

fn mix_entry(entry: &mut EntryExpr) {
    match entry {
        EntryExpr::StructField(field) => mix_numbers(&mut field.value),
        EntryExpr::MapEntry(pair) => {
            mix_numbers(&mut pair.key);
            mix_numbers(&mut pair.value);
        }
    }
}
