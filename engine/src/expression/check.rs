//! Checks an expression before any row: every name, every operand, the number of arguments, what the whole yields.
//!
//! What passes fails at no row for its types, but for nulls, which are known only there.

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, MapExpr, operators};

use super::errors::WORK_OUT_BEFORE;
use super::functions::{ELSEWHERE, FUNCTIONS, MACROS, Signature, functions};
use super::source::Source;
use super::tree::operator_of;
use super::types::Type;
use super::{Fault, Mistake, Wanted, hints};
use crate::problem::nearest;

/// What the expression may name: the type of a variable, or why there is none.
pub type Variables<'a> = &'a dyn Fn(&str) -> Result<Type, Fault>;

pub(super) struct Checker<'a> {
    pub source: &'a Source,
    pub variables: Variables<'a>,
    /// Variables that comprehensions bind, the innermost last.
    pub bound: Vec<(&'a str, Type)>,
    /// Parts around the one that is looked at.
    pub depth: usize,
}

/// Parts within parts, so that the stack of a thread suffices.
const MOST_NESTED: usize = 200;

type Checked = Result<Type, Mistake>;

impl<'a> Checker<'a> {
    /// Checks the whole.
    pub(super) fn whole(&mut self, tree: &'a IdedExpr, wanted: Wanted) -> Result<(), Mistake> {
        let found = self.part(tree)?;
        let (fits, expected) = match wanted {
            Wanted::Bool => (found.is_bool(), "true or false"),
            Wanted::Number => (found.is_number(), "a number"),
        };
        if fits {
            return Ok(());
        }
        let help = (wanted == Wanted::Bool).then(|| hints::condition(&self.source.quote(tree), &found)).flatten();
        Err(Mistake { at: self.source.range(tree), message: format!("it yields {found}, not {expected}"), help })
    }

    /// The type of a part; an image is none, for it is used by its facts.
    fn part(&mut self, tree: &'a IdedExpr) -> Checked {
        let found = self.part_or_image(tree)?;
        let Type::Image(facts) = &found else { return Ok(found) };
        let help = hints::facts(&self.source.quote(tree), facts);
        Err(self.wrong(tree, &found, "one of its facts", Some(help)))
    }

    fn part_or_image(&mut self, tree: &'a IdedExpr) -> Checked {
        if self.depth == MOST_NESTED {
            let help = Some(WORK_OUT_BEFORE.to_owned());
            return Err(self.mistake(tree, format!("it nests more than {MOST_NESTED} deep here"), help));
        }
        self.depth += 1;
        let found = self.any_part(tree);
        self.depth -= 1;
        found
    }

    fn any_part(&mut self, tree: &'a IdedExpr) -> Checked {
        match &tree.expr {
            Expr::Literal(literal) => self.literal(tree, literal),
            Expr::Ident(name) => self.variable(tree, name),
            Expr::Select(select) => {
                let operand = self.part_or_image(&select.operand)?;
                let field = self.field(tree, &select.operand, &operand, &select.field, select.test)?;
                Ok(if select.test { Type::Bool } else { field })
            }
            Expr::List(list) if list.optional_indices.is_empty() => {
                let mut items = Type::Null;
                for element in &list.elements {
                    items = self.alike(&items, element, "the list holds")?;
                }
                Ok(Type::List(Box::new(items)))
            }
            Expr::Map(map) => self.map(tree, map),
            Expr::Call(call) => self.call(tree, call),
            Expr::Comprehension(all) if all.iter_var2.is_none() => self.comprehension(all),
            _ => Err(self.outside(tree)),
        }
    }

    fn literal(&self, tree: &IdedExpr, literal: &LiteralValue) -> Checked {
        match literal {
            LiteralValue::Boolean(_) => Ok(Type::Bool),
            LiteralValue::Double(_) => Ok(Type::Float),
            LiteralValue::Int(_) => Ok(Type::Int),
            LiteralValue::Null => Ok(Type::Null),
            LiteralValue::String(_) => Ok(Type::Text),
            LiteralValue::UInt(_) => {
                let number = self.source.quote(tree);
                Err(self.mistake(
                    tree,
                    format!("`{number}` is unsigned, and no value here is"),
                    Some(format!("write `{}`", number.trim_end_matches(['u', 'U']))),
                ))
            }
            LiteralValue::Bytes(_) => Err(self.outside(tree)),
        }
    }

    fn variable(&self, tree: &IdedExpr, name: &str) -> Checked {
        if let Some((_, found)) = self.bound.iter().rev().find(|(bound, _)| *bound == name) {
            return Ok(found.clone());
        }
        (self.variables)(name).map_err(|fault| self.mistake(tree, fault.message, fault.help))
    }

    fn field(&self, tree: &IdedExpr, operand: &IdedExpr, found: &Type, field: &str, asked: bool) -> Checked {
        let whole = self.source.quote(operand);
        match found {
            Type::Any => Ok(Type::Any),
            Type::Map(key, value) if key.is_text() => Ok((**value).clone()),
            Type::Table(fields) | Type::Image(fields) => match fields.get(field) {
                Some(found) => Ok(found.clone()),
                None if asked && matches!(found, Type::Table(_)) => Ok(Type::Any),
                None => {
                    let (message, help) = hints::field(&whole, found, field, fields);
                    Err(self.mistake(tree, message, Some(help)))
                }
            },
            _ => Err(self.mistake(tree, format!("`{whole}` is {found} and has no `{field}`"), None)),
        }
    }

    fn map(&mut self, tree: &'a IdedExpr, map: &'a MapExpr) -> Checked {
        let (mut key, mut value) = (Type::Null, Type::Null);
        for entry in &map.entries {
            let EntryExpr::MapEntry(entry) = &entry.expr else { return Err(self.outside(tree)) };
            if entry.optional {
                return Err(self.outside(tree));
            }
            key = self.alike(&key, &entry.key, "the other keys are")?;
            if !matches!(key, Type::Bool | Type::Int | Type::Text | Type::Any) {
                return Err(self.wrong(&entry.key, &key, "text, int or bool", None));
            }
            value = self.alike(&value, &entry.value, "the map holds")?;
        }
        Ok(Type::Map(Box::new(key), Box::new(value)))
    }

    /// The type of a part and what stands beside it, which have to be alike.
    fn alike(&mut self, before: &Type, part: &'a IdedExpr, there: &str) -> Checked {
        let found = self.part(part)?;
        before.join(&found).ok_or_else(|| {
            let message = format!("`{}` is {found}, where {there} {before}", self.source.quote(part));
            self.mistake(part, message, None)
        })
    }

    /// A loop of `all`, `exists`, `filter`, `map`: the types of what it gathers.
    fn comprehension(&mut self, all: &'a ComprehensionExpr) -> Checked {
        let range = self.part(&all.iter_range)?;
        let item = match &range {
            Type::List(item) => (**item).clone(),
            Type::Map(key, _) => (**key).clone(),
            Type::Table(_) => Type::Text,
            Type::Any => Type::Any,
            other => return Err(self.wrong(&all.iter_range, other, "a list", None)),
        };
        let start = self.part(&all.accu_init)?;
        let outside = self.bound.len();
        self.bound.push((&all.iter_var, item));
        self.bound.push((&all.accu_var, start.clone()));
        let gathered = self.part(&all.loop_step)?;
        let gathered = start.join(&gathered).unwrap_or(gathered);
        self.bound.truncate(outside);
        self.bound.push((&all.accu_var, gathered));
        let result = self.part(&all.result);
        self.bound.truncate(outside);
        result
    }

    fn call(&mut self, tree: &'a IdedExpr, call: &'a CallExpr) -> Checked {
        let name = operator_of(&call.func_name);
        match (name, &call.target, call.args.as_slice()) {
            (operators::LOGICAL_AND | operators::LOGICAL_OR | operators::LOGICAL_NOT, None, sides) => {
                sides.iter().try_for_each(|side| self.condition(side))?;
                Ok(Type::Bool)
            }
            (operators::CONDITIONAL, None, [condition, yes, no]) => {
                self.condition(condition)?;
                let before = self.part(yes)?;
                self.alike(&before, no, "the other branch is")
            }
            (operators::EQUALS | operators::NOT_EQUALS, None, [left, right]) => self.equality(left, right),
            (
                operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS,
                None,
                [left, right],
            ) => self.order(left, right),
            (
                operators::ADD | operators::SUBSTRACT | operators::MULTIPLY | operators::DIVIDE | operators::MODULO,
                None,
                [left, right],
            ) => self.arithmetic(name, left, right),
            (operators::NEGATE, None, [number]) => {
                let found = self.part(number)?;
                if found.is_number() { Ok(found) } else { Err(self.wrong(number, &found, "a number", None)) }
            }
            (operators::IN, None, [item, container]) => self.membership(item, container),
            (operators::INDEX, None, [container, index]) => self.index(container, index),
            (operators::OPT_INDEX | operators::OPT_SELECT, ..) => Err(self.outside(tree)),
            _ => self.function(tree, call),
        }
    }

    fn condition(&mut self, side: &'a IdedExpr) -> Result<(), Mistake> {
        let found = self.part(side)?;
        if found.is_bool() {
            return Ok(());
        }
        let help = hints::condition(&self.source.quote(side), &found);
        Err(self.wrong(side, &found, "true or false", help))
    }

    fn equality(&mut self, left: &'a IdedExpr, right: &'a IdedExpr) -> Checked {
        let is_null = |side: &IdedExpr| matches!(side.expr, Expr::Literal(LiteralValue::Null));
        // Whether there is an image can be asked.
        if is_null(left) || is_null(right) {
            self.part_or_image(left)?;
            self.part_or_image(right)?;
            return Ok(Type::Bool);
        }
        let (one, other) = (self.part(left)?, self.part(right)?);
        if one.join(&other).is_some() { Ok(Type::Bool) } else { Err(self.unlike((left, &one), (right, &other))) }
    }

    fn order(&mut self, left: &'a IdedExpr, right: &'a IdedExpr) -> Checked {
        let (one, other) = (self.part(left)?, self.part(right)?);
        for (side, found) in [(left, &one), (right, &other)] {
            if !(found.is_number() || found.is_text() || found.is_bool()) {
                let help = hints::measured(&self.source.quote(side), found);
                return Err(self.wrong(side, found, "a number or text", help));
            }
        }
        if one.join(&other).is_some() { Ok(Type::Bool) } else { Err(self.unlike((left, &one), (right, &other))) }
    }

    /// Two sides that cannot be compared; shown at the right one, which is more often a literal.
    fn unlike(&self, left: (&IdedExpr, &Type), right: (&IdedExpr, &Type)) -> Mistake {
        let (one, other) = (self.source.quote(left.0), self.source.quote(right.0));
        let help = hints::literal(left, right).or_else(|| hints::conversion((&one, left.1), (&other, right.1)));
        let message = format!("`{one}` is {} and `{other}` is {}, which cannot be compared", left.1, right.1);
        let literal = matches!(left.0.expr, Expr::Literal(_)) && !matches!(right.0.expr, Expr::Literal(_));
        let at = if literal { left.0 } else { right.0 };
        self.mistake(at, message, help)
    }

    fn arithmetic(&mut self, name: &str, left: &'a IdedExpr, right: &'a IdedExpr) -> Checked {
        let (one, other) = (self.part(left)?, self.part(right)?);
        let joins = |found: &Type| found.is_text() || matches!(found, Type::List(_));
        if name == operators::ADD && (joins(&one) || joins(&other)) {
            if let Some(both) = one.join(&other).filter(|_| joins(&one) && joins(&other)) {
                return Ok(both);
            }
            if !(one == Type::Any || other == Type::Any) {
                let (at, found, beside) = if joins(&one) { (right, &other, &one) } else { (left, &one, &other) };
                let help = hints::appended(&self.source.quote(at), found, beside);
                return Err(self.wrong(at, found, &format!("{beside} as on the other side of `+`"), help));
            }
            return Ok(Type::Any);
        }
        let whole = name == operators::MODULO;
        for (side, found) in [(left, &one), (right, &other)] {
            if whole && !found.is_int() {
                return Err(self.wrong(side, found, "an int", Some("`%` works on two integers".to_owned())));
            }
            if !found.is_number() {
                let help = hints::measured(&self.source.quote(side), found);
                return Err(self.wrong(side, found, "a number", help));
            }
        }
        let mixed = [&one, &other].contains(&&Type::Float) && ![&one, &other].contains(&&Type::Any);
        Ok(if mixed { Type::Float } else { one.join(&other).unwrap_or(Type::Number) })
    }

    fn membership(&mut self, item: &'a IdedExpr, container: &'a IdedExpr) -> Checked {
        let (found, inside) = (self.part(item)?, self.part(container)?);
        let (holds, fits) = match &inside {
            Type::Any => return Ok(Type::Bool),
            Type::List(items) => (&**items, found.join(items).is_some()),
            Type::Map(key, _) => (&**key, found.is_key(key)),
            Type::Table(_) => (&Type::Text, found.is_text()),
            other => {
                let help = (other.is_text() && found.is_text())
                    .then(|| format!("write `{}.contains({})`", self.source.quote(container), self.source.quote(item)));
                return Err(self.wrong(container, other, "a list", help));
            }
        };
        if fits {
            return Ok(Type::Bool);
        }
        let help = hints::conversion((&self.source.quote(item), &found), ("", holds));
        Err(self.wrong(item, &found, &format!("{holds} as `{}` holds", self.source.quote(container)), help))
    }

    fn index(&mut self, container: &'a IdedExpr, index: &'a IdedExpr) -> Checked {
        let (inside, found) = (self.part(container)?, self.part(index)?);
        let (fits, expected, gives) = match &inside {
            Type::Any => return Ok(Type::Any),
            Type::List(item) => (found.is_int(), "an int, the first being 0".to_owned(), (**item).clone()),
            Type::Map(key, value) => (found.is_key(key), key.to_string(), (**value).clone()),
            Type::Table(_) => (found.is_text(), "text".to_owned(), Type::Any),
            other => return Err(self.wrong(container, other, "a list", None)),
        };
        if fits { Ok(gives) } else { Err(self.wrong(index, &found, &expected, None)) }
    }

    fn function(&mut self, tree: &'a IdedExpr, call: &'a CallExpr) -> Checked {
        let name = call.func_name.as_str();
        let Some(signature) = FUNCTIONS.iter().find(|one| one.name == name) else {
            return Err(self.unknown_function(tree, name));
        };
        let usage = || Some(format!("write `{}`", signature.usage()));
        if call.target.is_some() && !signature.method || call.target.is_none() && !signature.plain {
            return Err(self.mistake(tree, format!("`{name}` is not called this way"), usage()));
        }
        let target = call.target.iter().map(|target| &**target);
        let given: Vec<&IdedExpr> = target.chain(&call.args).collect();
        let hidden = usize::from(call.target.is_some());
        if given.len() != signature.takes.len() {
            let at = given.get(signature.takes.len()).copied().unwrap_or(tree);
            let takes = signature.takes.len() - hidden;
            let message = format!("`{name}` takes {}, found {}", arguments(takes), given.len() - hidden);
            return Err(self.mistake(at, message, usage()));
        }
        for (argument, takes) in given.iter().zip(signature.takes) {
            let found = self.part(argument)?;
            if !takes.accepts(&found) {
                let help = hints::argument(name, &self.source.quote(argument), &found);
                return Err(self.wrong(argument, &found, takes.name(), help));
            }
        }
        self.pattern(signature, &given)?;
        Ok(signature.gives.clone())
    }

    /// A pattern that is written out must be a regular expression.
    fn pattern(&self, signature: &Signature, given: &[&IdedExpr]) -> Result<(), Mistake> {
        let [_, pattern] = given else { return Ok(()) };
        let Expr::Literal(text @ LiteralValue::String(_)) = &pattern.expr else { return Ok(()) };
        if signature.name != "matches" {
            return Ok(());
        }
        let literal = IdedExpr { id: 0, expr: Expr::Literal(text.clone()) };
        let call =
            CallExpr { func_name: signature.name.to_owned(), target: None, args: vec![literal.clone(), literal] };
        let tried = cel::Value::resolve(&IdedExpr { id: 0, expr: Expr::Call(call) }, &functions());
        tried.map(drop).map_err(|error| {
            let why = super::explain(&error);
            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
            let message = format!("`{}` is no regular expression: {why}", self.source.quote(pattern));
            self.mistake(pattern, message, None)
        })
    }

    fn unknown_function(&self, tree: &IdedExpr, name: &str) -> Mistake {
        if let Some((_, usage)) = MACROS.iter().find(|(known, _)| *known == name) {
            return self.mistake(tree, format!("`{name}` is not called this way"), Some(format!("write `{usage}`")));
        }
        let names = || FUNCTIONS.iter().map(|one| one.name).chain(MACROS.iter().map(|(name, _)| *name));
        let known = ELSEWHERE.iter().find(|(other, _)| *other == name).map(|(_, known)| *known);
        let help = match known.or_else(|| nearest(name, names())) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are {}", names().collect::<Vec<_>>().join(", ")),
        };
        self.mistake(tree, format!("there is no function `{name}`"), Some(help))
    }

    fn mistake(&self, part: &IdedExpr, message: String, help: Option<String>) -> Mistake {
        Mistake { at: self.source.range(part), message, help }
    }

    /// A part of another type than is expected.
    fn wrong(&self, part: &IdedExpr, found: &Type, expected: &str, help: Option<String>) -> Mistake {
        self.mistake(part, format!("`{}` is {found}, expected {expected}", self.source.quote(part)), help)
    }

    /// A form of the language that expressions of pipelines do without.
    fn outside(&self, part: &IdedExpr) -> Mistake {
        let message = format!("`{}` is of a form that expressions of pipelines do not have", self.source.quote(part));
        self.mistake(
            part,
            message,
            Some("they have columns, numbers, texts, lists, maps, operators and functions".to_owned()),
        )
    }
}

fn arguments(number: usize) -> String {
    match number {
        0 => "no arguments".to_owned(),
        1 => "1 argument".to_owned(),
        several => format!("{several} arguments"),
    }
}
