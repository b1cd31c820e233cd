//! Walks over parsed expressions: which variables they use, what they compute with, and which parts may be skipped.

use std::collections::{BTreeMap, BTreeSet};

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, operators};

/// How an expression uses a variable.
#[derive(Clone, Debug, Default)]
pub struct Use {
    /// As it is.
    pub whole: bool,
    /// By fields: `image.width`.
    pub fields: BTreeSet<String>,
}

/// The names of the arithmetic that mixes integers and floats, by the operator each stands for.
pub const ARITHMETIC: &[(&str, &str)] = &[
    (operators::ADD, "@add"),
    (operators::SUBSTRACT, "@subtract"),
    (operators::MULTIPLY, "@multiply"),
    (operators::DIVIDE, "@divide"),
];

/// Calls `visit` on every direct part of an expression.
fn each_part<'a>(tree: &'a IdedExpr, visit: &mut dyn FnMut(&'a IdedExpr)) {
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

/// Notes the variables that are not bound by a comprehension around them.
pub fn collect_uses<'a>(tree: &'a IdedExpr, bound: &mut Vec<&'a str>, uses: &mut BTreeMap<String, Use>) {
    match &tree.expr {
        Expr::Ident(name) if !bound.contains(&name.as_str()) => {
            uses.entry(name.clone()).or_default().whole = true;
        }
        Expr::Select(select) => match &select.operand.expr {
            Expr::Ident(name) if !bound.contains(&name.as_str()) => {
                uses.entry(name.clone()).or_default().fields.insert(select.field.clone());
            }
            _ => collect_uses(&select.operand, bound, uses),
        },
        Expr::Comprehension(all) => collect_comprehension(all, bound, uses),
        _ => each_part(tree, &mut |part| collect_uses(part, bound, uses)),
    }
}

fn collect_comprehension<'a>(all: &'a ComprehensionExpr, bound: &mut Vec<&'a str>, uses: &mut BTreeMap<String, Use>) {
    collect_uses(&all.iter_range, bound, uses);
    collect_uses(&all.accu_init, bound, uses);
    let outside = bound.len();
    bound.extend([all.iter_var.as_str(), all.accu_var.as_str()]);
    bound.extend(all.iter_var2.as_deref());
    for part in [&all.loop_cond, &all.loop_step, &all.result] {
        collect_uses(part, bound, uses);
    }
    bound.truncate(outside);
}

/// The expression and the operands of its logical operators, which an evaluation of the whole may skip.
pub fn collect_operands<'a>(tree: &'a IdedExpr, operands: &mut Vec<&'a IdedExpr>) {
    if let Expr::Call(call) = &tree.expr
        && [operators::LOGICAL_AND, operators::LOGICAL_OR, operators::LOGICAL_NOT, operators::CONDITIONAL]
            .contains(&call.func_name.as_str())
    {
        call.args.iter().for_each(|part| collect_operands(part, operands));
    }
    operands.push(tree);
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
