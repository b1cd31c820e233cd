//! Expressions over rows: what they compute, and what is told of mistakes.

use super::*;

fn schema() -> Schema {
    let columns = [
        ("caption", ColumnType::Text),
        ("score", ColumnType::Float),
        ("count", ColumnType::Int),
        ("references", ColumnType::Texts),
        ("image", ColumnType::Image),
    ];
    Schema(columns.map(|(name, column_type)| (name.to_owned(), column_type)).into())
}

fn row() -> Row {
    let cells = vec![
        Cell::Text("a red kite".into()),
        Cell::Float(0.5),
        Cell::Int(3),
        Cell::Texts(vec!["one two".into(), "three".into()]),
    ];
    Row { id: "a/1.png".into(), cells }
}

fn columns() -> Vec<String> {
    ["caption", "score", "count", "references"].map(str::to_owned).into()
}

fn truth(source: &str) -> Result<bool, String> {
    Expression::parse("keep", source).unwrap().bind(&columns(), &schema()).truth(&row())
}

fn problem(source: &str) -> String {
    let expression = Expression::parse("keep", source);
    let problem = expression.and_then(|e| e.check(&schema(), Wanted::Bool)).unwrap_err();
    format!("{} ({})", problem.message, problem.help.unwrap_or_default())
}

#[test]
fn conditions_on_cells() {
    for source in [
        "words(caption) == 3 && size(caption) == 10",
        "count * score == 1.5 && count + 1 > 3.5 && score / 2 == 0.25 && 1 - score == 0.5",
        "id.startsWith('a/') && caption.matches('^a .*kite$')",
        "references.all(r, words(r) >= 1) && references.exists(r, r.contains('two'))",
        "'three' in references && references[0] != ''",
        "count / 2 == 1",
        "image != null && image.width > 0 || true",
        "(count > 5 ? 1 : 0.5) * 2 == 1 && count in [3, 4.5] && {'a': 1}['a'] == 1",
        "references.map(r, words(r)).exists(n, n == 2) && references.exists_one(r, r == 'three')",
        "int('3') == count && double(count) == 3.0 && string(count) == '3' && bool('true')",
    ] {
        assert_eq!(truth(source), Ok(true), "{source}");
        Expression::parse("keep", source).unwrap().check(&schema(), Wanted::Bool).unwrap();
    }
}

#[test]
fn columns_read_leave_out_bound_variables() {
    let expression = Expression::parse("keep", "references.all(r, r != caption) && image.width > 3").unwrap();
    assert_eq!(expression.columns().collect::<Vec<_>>(), ["caption", "image", "references"]);
}

#[test]
fn mistakes_are_found_before_any_row() {
    let told = [
        (
            "captoin != ''",
            "there is no column `captoin` (did you mean `caption`? the input has columns id: text, caption: text,",
        ),
        ("image.width && count > 1", "`image.width` is int, expected true or false (compare it: `image.width > 0`)"),
        (
            "words(caption) == \"3\"",
            "`words(caption)` is int and `\"3\"` is text, which cannot be compared (compare with 3, not \"3\")",
        ),
        ("not caption", "is not an expression: `caption` cannot stand here (write `!` for not: `!(a > 1)`)"),
        ("!caption", "`caption` is text, expected true or false (compare it: `caption != \"\"`)"),
        ("words(caption, 3) > 1", "`words` takes 1 argument, found 2 (write `words(x)`)"),
        ("caption.contains('a', 'b')", "`contains` takes 1 argument, found 2 (write `t.contains(x)`)"),
        ("contains(caption, 'a')", "`contains` is not called this way (write `t.contains(x)`)"),
        ("image > 3", "`image` is an image, expected one of its facts (use one of its facts: `image.aspect`"),
        ("image.widht > 3", "an image has no fact `widht` (did you mean `image.width`?"),
        (
            "count > 5 || caption > 3",
            "`caption` is text and `3` is int, which cannot be compared (compare with \"3\", not 3)",
        ),
        ("caption > count", "cannot be compared (`size(caption)` counts its characters"),
        ("caption + 1 == ''", "`1` is int, expected text as on the other side of `+` (write `string(1)`)"),
        ("caption * 2 > 1", "`caption` is text, expected a number (`size(caption)` counts"),
        ("count % 2.0 == 1", "`2.0` is float, expected an int (`%` works on two integers)"),
        ("count", "it yields int, not true or false (compare it: `count > 0`)"),
        ("wrods(caption) > 3", "there is no function `wrods` (did you mean `words`?)"),
        ("len(caption) > 3", "there is no function `len` (did you mean `size`?)"),
        ("caption.matches('[')", "`'['` is no regular expression: unclosed character class"),
        ("'a' in caption", "`caption` is text, expected a list (write `caption.contains('a')`)"),
        ("3 in references", "`3` is int, expected text as `references` holds"),
        ("references['a'] == ''", "`'a'` is text, expected an int, the first being 0"),
        ("references.all(r, size(r))", "`size(r)` is int, expected true or false (compare it: `size(r) > 0`)"),
        ("references.all(r > 1)", "`all` is not called this way (write `l.all(x, CONDITION)`)"),
        ("(count > 1 ? 'a' : 2) == 'a'", "`2` is int, where the other branch is text"),
        ("count in [1, 'a']", "`'a'` is text, where the list holds int"),
        ("caption.length > 3", "`caption` is text and has no `length`"),
        ("count = 3", "(write `==` to compare)"),
        ("count >", "`count >` is not an expression: it ends too early"),
        ("", "`` is not an expression"),
        ("3u == count", "`3u` is unsigned, and no value here is (write `3`)"),
    ];
    for (source, expected) in told {
        let found = problem(source);
        assert!(found.contains(expected), "{source}: {found}");
    }
}

#[test]
fn mistakes_are_shown_where_they_stand() {
    for source in [
        "count > 1 && ▸caption◂",
        "count > 1 && ▸words(caption + 'é')◂ ? true : false",
        "'é' == caption && (▸(count + 1) * 2◂)",
        "words(caption) == ▸\"3\"◂",
        "▸'3'◂ == count",
        "words(caption, ▸id◂) > 1",
        "references.exists(r, ▸r.size()◂)",
        "references.filter(r, r != '')[▸id◂] == ''",
        "▸wrods(caption)◂ > 3",
        "▸has(image.widht)◂",
        "caption.matches(▸'['◂)",
        "'é' == caption && ▸>◂ 3",
        "caption == 'é' ▸a◂nd count > 3",
    ] {
        let start = source.find('▸').unwrap();
        let end = source.find('◂').unwrap() - '▸'.len_utf8();
        let source = source.replace(['▸', '◂'], "");
        let checked = Expression::parse("keep", &source).and_then(|e| e.check(&schema(), Wanted::Bool));
        let problem = checked.unwrap_err();
        assert_eq!(problem.within(), Some(&(source.clone(), start..end)), "{source}: {}", problem.message);
    }
}

#[test]
fn a_null_fails_unless_it_is_asked_about() {
    let mut row = row();
    row.cells[1] = Cell::Null;
    let truth = |source: &str| Expression::parse("keep", source).unwrap().bind(&columns(), &schema()).truth(&row);
    assert_eq!(truth("score == null"), Ok(true));
    assert_eq!(truth("score != null && score > 0.1"), Ok(false));
    assert_eq!(truth("score > 0.1").unwrap_err(), "`>` does not work on null and float");
}

#[test]
fn numbers_are_finite() {
    let number = |source: &str| Expression::parse("by", source).unwrap().bind(&columns(), &schema()).number(&row());
    assert_eq!(number("count * 2"), Ok(6.0));
    assert_eq!(number("1.0 / 0.0"), Err("it yields inf".to_owned()));
    assert_eq!(number("count / 0"), Err("division by zero".to_owned()));
    assert_eq!(number("caption"), Err("it yields text, not a number".to_owned()));
}

#[test]
fn hostile_sources_are_errors() {
    for source in ["(".repeat(4000), "[".repeat(4000), "a.".repeat(2000), "\u{0}".into(), "1+".repeat(4000) + "1"] {
        assert!(Expression::parse("keep", &source).is_err(), "{}…", &source[..1]);
    }
    for part in ["!", "-", "caption.", "count+", "true&&", "id+", "[", "(", "words("] {
        let source = part.repeat(expression::MAX_SOURCE / part.len() - 1) + "count";
        let checked = Expression::parse("keep", &source).and_then(|e| e.check(&schema(), Wanted::Bool));
        assert!(checked.is_err(), "{part}…");
    }
    let long = "count-".repeat(150) + "count > 0";
    Expression::parse("keep", &long).unwrap().check(&schema(), Wanted::Bool).unwrap();
}

#[test]
fn facts_of_images() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.png");
    image::RgbImage::new(6, 4).save(&path).unwrap();
    let evaluate = |bytes: Vec<u8>, source: &str| {
        std::fs::write(&path, &bytes).unwrap();
        let digest = pipe_engine::Digest::of(&bytes);
        let blob = pipe_engine::Blob { digest, path: path.clone().into(), offset: 0, len: bytes.len() as u64 };
        let row = Row { id: "a".into(), cells: vec![Cell::Image(blob)] };
        Expression::parse("keep", source).unwrap().bind(&["image".to_owned()], &schema()).truth(&row)
    };
    let whole = std::fs::read(&path).unwrap();
    let cut = whole[..whole.len() - 20].to_vec();
    let sizes = "image.width == 6 && image.height == 4 && image.aspect == 1.5 && image.format == 'png'";
    assert_eq!(evaluate(whole.clone(), sizes), Ok(true));
    assert_eq!(evaluate(whole.clone(), "image.bytes < 1000 && !image.broken"), Ok(true));
    assert_eq!(evaluate(cut, "image.broken && image.width == 6"), Ok(true));
    assert!(evaluate(b"no image".to_vec(), "image.width > 0").is_err());
    // A file of which only the head is read.
    let long = [whole, vec![0; 1 << 20]].concat();
    assert_eq!(evaluate(long, sizes), Ok(true));
}

proptest::proptest! {
    #[test]
    fn no_source_panics(source in "[a-z0-9 .,(){}\\[\\]<>=!&|?:+*/%'\"\\\\@#$~^é\u{0}-]{0,60}") {
        if let Ok(expression) = Expression::parse("keep", &source) {
            let _ = expression.check(&schema(), Wanted::Bool);
            let _ = expression.bind(&columns(), &schema()).truth(&row());
        }
    }

    #[test]
    fn no_arithmetic_panics(left: i64, right: i64, operator in "[-+*/%]") {
        let source = format!("({left} {operator} {right}) == ({right} {operator} {left}) || {left} < 0.5");
        let _ = truth(&source);
    }
}
