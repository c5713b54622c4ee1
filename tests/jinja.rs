//! Chat templates give what Jinja gives, and those that are made to hurt are refused in time and memory.

mod common;

use std::time::{Duration, Instant};

use remask::text::{ChatMessage, ChatTemplate, RenderOptions};
use remask::{Error, ErrorKind};

fn options() -> RenderOptions {
    RenderOptions {
        add_generation_prompt: true,
        bos: "<s>".to_owned(),
        eos: "</s>".to_owned(),
    }
}

fn render(source: &str, messages: &[ChatMessage]) -> Result<String, Error> {
    ChatTemplate::parse(source)?.render(messages, &options())
}

/// Where we differ from Jinja, and why.
const OTHERWISE: &[(&str, &str)] = &[
    ("[{{ {'b': 1, 'a': 2} | dictsort }}]", TUPLE),
    ("[{{ {'a': 1} | items | list }}]", TUPLE),
    ("[{{ {'a': 1}.items() | list }}]", TUPLE),
    ("[{{ (1,) }}]", TUPLE),
    ("[{{ [[1, 2], [3]] | sum(start=[]) }}]", "a sum begins with 0"),
    ("[{{ 'ǆ'.title() }}]", "Rust has no title case of digraphs"),
    (
        "{% for i in [1] %}{% macro f() %}[{{ loop }}]{% endmacro %}{{ f() }}{% endfor %}",
        "a macro does not see the loop that it stands in",
    ),
];
const TUPLE: &str = "tuples are lists, and show as lists do";

/// Cases and results that `tests/jinja/make.py` took from Jinja itself.
#[test]
fn templates_give_what_jinja_gives() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/jinja");
    let file = common::json(&folder.join("cases.json"));
    let text = |v: &serde_json::Value, key: &str| v[key].as_str().unwrap().to_owned();
    let messages: Vec<ChatMessage> = file["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| ChatMessage::new(text(m, "role"), text(m, "content")))
        .collect();
    let cases = file["cases"].as_array().unwrap();
    assert!(cases.len() > 250, "{}", cases.len());
    let mut wrong = Vec::new();
    for case in cases {
        let source = text(case, "template");
        let got = render(&source, &messages);
        let otherwise = OTHERWISE.iter().any(|(s, why)| *s == source && !why.is_empty());
        if (got.as_deref().ok() == case["text"].as_str()) == otherwise {
            wrong.push(format!(
                "{source}\n   jinja {:?}\n   ours  {got:?}",
                case["text"].as_str()
            ));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// Pieces that are put together many times.
fn many(begin: &str, piece: &str, n: usize, end: &str) -> String {
    [begin, &piece.repeat(n), end].concat()
}

/// Templates that would take the host with them: endless work, memory without bound, too deep a stack.
fn hostile() -> Vec<(&'static str, String)> {
    let x = "{% set x = 'aaaaaaaa' %}";
    let loops = "{% for i in range(99999) %}";
    let ends = "{% endfor %}";
    vec![
        (
            "doubled by a loop",
            format!("{{% set n = namespace(x='aaaaaaaa') %}}{loops}{{% set n.x = n.x ~ n.x %}}{ends}"),
        ),
        ("doubled line by line", many(x, "{% set x = x + x %}", 60, "")),
        (
            "doubled by captures",
            many(x, "{% set x %}{{ x }}{{ x }}{% endset %}", 60, ""),
        ),
        (
            "doubled by a macro",
            many(
                "{% macro f(x) %}{{ x }}{{ x }}{% endmacro %}",
                "{% set x = f(x or 'a') %}",
                60,
                "",
            ),
        ),
        (
            "doubled by a filter",
            many(x, "{% set x = x | replace('a', x) %}", 60, ""),
        ),
        ("repeated", "{{ 'a' * 99999999999 }}".into()),
        ("a list repeated", "{{ ([0] * 999999999999999) | length }}".into()),
        (
            "a list in itself",
            many("{% set x = [1] %}", "{% set x = [x, x] %}", 100, "{{ x == x }}"),
        ),
        (
            "a map in itself",
            many(
                "{% set x = {} %}",
                "{% set x = {'a': x, 'b': x} %}",
                100,
                "{{ x | tojson }}",
            ),
        ),
        (
            "a deep list",
            format!("{{% set n = namespace(x=[]) %}}{loops}{{% set n.x = [n.x] %}}{ends}"),
        ),
        (
            "long texts in a list",
            format!("{{% set n = namespace(x=[]) %}}{loops}{{% set n.x = n.x + ['a' * 99999] %}}{ends}"),
        ),
        (
            "nothing replaced by much",
            "{{ ('a' * 1000000).replace('', 'a' * 1000000) }}".into(),
        ),
        ("joined by much", "{{ range(99999) | join('a' * 100000) }}".into()),
        ("indented by much", "{{ 'a\\nb' | indent(99999999999) }}".into()),
        ("a long range", "{{ range(99999999999) | length }}".into()),
        (
            "loops in loops",
            format!("{loops}{loops}{{% set x = 1 %}}{ends}{ends}"),
        ),
        (
            "text in loops",
            format!("{loops}{loops}{}{ends}{ends}", "x".repeat(1000)),
        ),
        (
            "text in loops, captured",
            format!(
                "{{% set x %}}{loops}{loops}{}{ends}{ends}{{% endset %}}",
                "x".repeat(1000)
            ),
        ),
        (
            "a macro that calls itself",
            "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}".into(),
        ),
        (
            "a macro that is given itself",
            "{% macro f(x) %}{{ [[[[x(x)]]]] }}{% endmacro %}{{ f(f) }}".into(),
        ),
        ("brackets", many("{{ ", "(", 100_000, "1")),
        ("lists", many("{{ ", "[", 100_000, "}}")),
        ("nots", many("{{ ", "not ", 100_000, "1 }}")),
        ("minus", many("{{ ", "-", 100_000, "1 }}")),
        ("conditions", many("{{ ", "1 if 0 else ", 80_000, "2 }}")),
        ("blocks", many("", "{% if 1 %}", 100_000, "")),
        ("a power", "{{ 9 ** 9 ** 9 ** 9 }}".into()),
        (
            "the least number",
            "{{ (-9223372036854775807 - 1) // -1 }}".into(),
        ),
        (
            "the least number's rest",
            "{{ (-9223372036854775807 - 1) % -1 }}".into(),
        ),
        ("a large number", "{{ 99999999999999999999999999 }}".into()),
        (
            "each with each",
            "{{ range(99999) | list | unique | length }}".into(),
        ),
        (
            "searches",
            format!("{loops}{{{{ 'b' in ('a' * 100000) }}}}{ends}"),
        ),
        (
            "comparisons",
            format!(
                "{{% set x = 'a' * 1000000 %}}{{% set y = 'a' * 1000000 %}}{loops}{{{{ x == y }}}}{ends}"
            ),
        ),
        (
            "a large map",
            format!(
                "{{% set d = {{ {} }} %}}",
                (0..80_000).map(|i| format!("'{i}': 1,")).collect::<String>()
            ),
        ),
        (
            "names without end",
            format!("{loops}{loops}{{% set n = namespace(a=1) %}}{ends}{ends}"),
        ),
        ("a mixed order", "{{ ['a', 1, 'b', none] | sort }}".into()),
        (
            "an order of no numbers",
            "{{ [1e999 - 1e999, 1.0] | sort }}".into(),
        ),
        (
            "a set to strip",
            "{{ ('a' * 1000000).strip('b' * 1000000) }}".into(),
        ),
        ("another file", "{% include '/etc/passwd' %}".into()),
        ("its own class", "{{ messages.__class__.__mro__ }}".into()),
        ("a tag without end", "{{ 'a".into()),
        ("a comment without end", many("", "{#", 400_000, "")),
        ("raw without end", many("{% raw %}", "{%", 400_000, "")),
    ]
}

/// Bytes. Code with AddressSanitizer in it (`tests/asan.sh`) takes many times as many.
fn small_stack() -> usize {
    match std::env::var_os("REMASK_TEST_SANITIZER") {
        None => 256 << 10,
        Some(_) => 8 << 20,
    }
}

#[test]
fn templates_that_are_made_to_hurt_are_refused_at_once_on_a_small_stack() {
    let worker = std::thread::Builder::new().stack_size(small_stack()).spawn(|| {
        let messages = [ChatMessage::new("user", " hello ")];
        for (what, source) in hostile() {
            let began = Instant::now();
            let error = render(&source, &messages).expect_err(what);
            assert!(
                matches!(error.kind(), ErrorKind::Template | ErrorKind::Limit),
                "{what}: {error}"
            );
            assert!(error.message().len() < 500, "{what}: {error}");
            // It is milliseconds; machines are busy.
            assert!(
                began.elapsed() < Duration::from_secs(5),
                "{what}: {:?}",
                began.elapsed()
            );
        }
    });
    worker.unwrap().join().unwrap();
}

/// What is long and does no harm is taken, on a small stack too.
#[test]
fn long_templates_without_harm_are_taken() {
    let worker = std::thread::Builder::new().stack_size(small_stack()).spawn(|| {
        for (source, expected) in [
            (many("{{ 1", "+1", 100_000, " }}"), "100001"),
            (many("{{ 1", " | string", 50_000, " }}"), "1"),
            (many("{{ 1", " and 2", 50_000, " }}"), "2"),
            (
                many("{% if 0 %}", "{% elif 0 %}", 50_000, "{% else %}x{% endif %}"),
                "x",
            ),
            (
                many("", "{% for i in [1] %}", 15, &many("x", "{% endfor %}", 15, "")),
                "x",
            ),
            ("{{ 'a'.count('') }}".to_owned(), "2"),
            (many("", "{% set a = 1 %}", 60_000, "x"), "x"),
        ] {
            assert_eq!(render(&source, &[]).unwrap(), expected);
        }
    });
    worker.unwrap().join().unwrap();
}
