"""Writes cases.json: what Jinja itself makes of chat templates, set up as transformers sets it up
(`utils/chat_template_utils.py`, `_compile_jinja_template`). Run with jinja2 3.1.6:

    python make.py > cases.json
"""

import json

from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

MESSAGES = [
    {"role": "system", "content": " Be brief.\n"},
    {"role": "user", "content": "Hello, it's \"me\" <b> \u4e2d\u6587"},
    {"role": "assistant", "content": "<think>hm</think>\n\nHi"},
    {"role": "user", "content": ""},
]


def environment():
    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message):
        raise TemplateError(message)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    return env


def rendered(env, source):
    try:
        template = env.from_string(source)
        return template.render(
            messages=MESSAGES, add_generation_prompt=True, bos_token="<s>", eos_token="</s>"
        )
    except Exception:  # whatever it is: the template is refused
        return None


# Expressions, each shown by itself.
EXPRESSIONS = r"""
1 + 2 * 3 - 4
2 ** 3 ** 2
7 // 2
-7 // 2
7 % 3
-7 % 3
7 / 2
1.5 + 1
1e3
1_000
1 / 3
2 ** -1
10 // 0
'a' + 'b' ~ 1 ~ none ~ true
'a' + 1
'ab' * 3
3 * 'ab'
'ab' * -1
[1, 2] + [3]
[0] * 3
'a' 'b'
'\n\t\\\'"\u4e2d\x41\q'
"it's"
['it\'s', "a", 'q"\'', 1.0, none, true, '\n', '\\']
{'a': 1, 'b': [1, {'c': 'd'}]}
{'a': 1}['a']
{'a': 1}.a
{'a': 1}.b
{'a': 1, 'a': 2}
[1, 2, 3][0]
[1, 2, 3][-1]
[1, 2, 3][7]
[1, 2, 3][1:]
[1, 2, 3][:-1]
[1, 2, 3][::-1]
[1, 2, 3, 4][::2]
[1, 2, 3, 4][3:0:-2]
'hello'[1:3]
'hello'[::-1]
'hello'[0]
'hello'[-2:]
'hello'[10:]
1 < 2 < 3
1 < 2 > 3
1 == 1.0
1 == true
'a' < 'b'
[1, 2] < [1, 3]
'a' == 1
not 1 == 2
not true or true
1 and 0
1 and 2
0 or ''
none or 'x'
'ell' in 'hello'
'x' not in 'hello'
1 in [1, 2]
'a' in {'a': 1}
3 in [1, 2]
'a' if true else 'b'
'a' if false
'a' if false else 'b' if true else 'c'
nothing
nothing is defined
nothing is not defined
nothing | default('x')
'' | default('x')
'' | default('x', true)
nothing == none
nothing.a
nothing + 'a'
none is none
1 is number
1.5 is float
1 is integer
true is boolean
'a' is string
[1] is iterable
[1] is sequence
{} is mapping
'a' is mapping
3 is odd
4 is even
9 is divisibleby 3
1 is eq 1
1 is in [1, 2]
'a' is eq('a')
true is true
1 is true
' a ' | trim
'aBc' | upper
'aBc' | lower
'hello wORLD' | capitalize
'abc' | length
[1, 2] | count
[1, 2] | first
[1, 2] | last
[] | first
[1, 2] | join(', ')
['a', 1, none] | join('-')
'aXbX' | replace('X', 'yy')
'aaa' | replace('a', 'b', 2)
'abc' | list
'abc' | reverse
[1, 2] | reverse | list
[3, 1, 2] | sort
['b', 'A', 'c'] | sort
[3, 1, 2] | sort(reverse=true)
{'b': 1, 'a': 2} | dictsort
[1, 2, 1] | unique | list
[1, 2] | sum
[1, 2] | max
[1, 2] | min
'3' | int
'x' | int
'x' | int(7)
'3.5' | float
3.9 | int
-3 | abs
[{'a': 1}, {'a': 2}] | map(attribute='a') | list
['a', 'b'] | map('upper') | list
[1, 2, 3] | select('odd') | list
[1, 2, 3] | reject('odd') | list
[{'a': 1}, {'a': 2}] | selectattr('a', 'eq', 2) | list
[{'a': 1}, {}] | selectattr('a', 'defined') | list
[{'a': 1}, {}] | rejectattr('a', 'defined') | list
[0, 1] | select | list
{'a': 1} | items | list
{'a': 1} | tojson
{'a': [1, 2.5, none, true, '\n"\\/<'], 'b': {}} | tojson
{'a': [1, {'b': []}]} | tojson(indent=2)
'\u4e2d' | tojson
'a\nb\n\nc' | indent
'a\nb' | indent(2, true)
'a\nb' | indent('> ')
12 | string + 'a'
-1 | abs
'a,b,,c'.split(',')
' a  b '.split()
'a b c d'.split(' ', 1)
'a  b c'.split(None, 1)
'a.b.c'.rsplit('.', 1)
'a\nb\n'.splitlines()
'abc'.startswith('ab')
'abc'.endswith(('x', 'bc'))
'abc'.upper().lower().title()
"they're bill's".title()
'xxaxx'.strip('x')
'xxaxx'.lstrip('x')
'xxaxx'.rstrip('x')
'abcabc'.replace('b', '', 1)
'abc'.replace('', '-')
'abc'.find('c')
'abc'.find('x')
'abcabc'.rfind('b')
'abcabc'.count('b')
'abc'.count('')
'abc'.isdigit()
'12'.isdigit()
'ab'.isalpha()
'a1'.isalnum()
' '.isspace()
'AB'.isupper()
'ab'.islower()
'-'.join(['a', 'b'])
'prefix-x'.removeprefix('prefix-')
'x.py'.removesuffix('.py')
{'a': 1}.items() | list
{'a': 1}.keys() | list
{'a': 1}.values() | list
{'a': 1}.get('a')
{'a': 1}.get('b')
{'a': 1}.get('b', 2)
[1, 2, 1].count(1)
[1, 2].index(2)
range(3) | list
range(1, 4) | list
range(4, 0, -2) | list
dict(a=1, b=2)
(1, 2)[1]
messages | length
messages[0]['role']
messages[0].content
messages[-1].role
messages[1:] | map(attribute='role') | join(',')
messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | list
messages[2].content.split('</think>')[-1].lstrip('\n')
bos_token + eos_token
raise_exception('no')
raise_exception is defined
strftime_now is defined
loop is defined
[[1, 2], [3]] | sum(start=[])
1 +
a b
'open
{{ }}
1 | nosuch
1 is nosuch
'a'.nosuch()
[1,]
[,]
(1,)
{'a' 1}
true and (false or true)
- 2 ** 2
-'a'
+1
'%s' | length
'a' ~ [1, 'b'] ~ {'c': none}
1.0 ~ ''
1e100 ~ ''
0.1 + 0.2
1e-7 ~ ''
100000000000000000000.0 ~ ''
5 // 0.0
7.5 // 2
-7.5 % 2
'\U0001F642'
'e\u0301' | length
'ß'.upper()
'İ' | lower | length
'ǆ'.title()
""".strip("\n").split("\n")

TEMPLATES = [
    "{% for m in messages %}{{ m.role }}: {{ m.content | trim }}\n{% endfor %}",
    "{%- for m in messages -%} {{ m.role }} {%- endfor -%} x",
    "  {% if true %}\n  a\n  {% endif %}\n  b\n",
    "  {%+ if true %}\n  a\n  {%- endif %}\n  b\n\n",
    "a {# c #} b\n  {# whole line #}\nc {#- d -#} e",
    "{% raw %}{{ x }} {% y %}{% endraw %}\nz",
    "{%- raw -%}  {{ x }}  {%- endraw -%}  z",
    "a\n\n{{ 1 }}\n\n{{- 2 -}}\n\nb",
    "{% set x = 1 %}{% for i in [1, 2] %}{% set x = i %}{{ x }}{% endfor %}{{ x }}",
    "{% for i in [1, 2] %}{{ x }}{% set x = i %}{% endfor %}",
    "{% set ns = namespace(n=0) %}{% for i in range(4) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}",
    "{% set ns = namespace() %}{% set ns.a = 'b' %}{{ ns.a }}{{ ns.c }}",
    "{% set x %}a{{ 1 }}b{% endset %}{{ x | upper }}",
    "{% set a = 1, 2 %}{{ a[1] }}",
    "{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for a, b in [[1, 2], [3]] %}{{ a }}{% endfor %}",
    "{% for i in [] %}x{% else %}none{% endfor %}",
    "{% for i in [1, 2, 3] if i != 2 %}{{ loop.index }}{{ i }}{{ loop.last }}{% else %}none{% endfor %}",
    "{% for i in [1, 2] if i > 5 %}x{% else %}none{% endfor %}",
    "{% for i in [1, 2, 3] %}{{ loop.index0 }}{{ loop.first }}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }}"
    "{{ loop.previtem }}{{ loop.nextitem }};{% endfor %}",
    "{% for i in [1, 2] %}{% for j in [1, 2] %}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %}",
    "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 4 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% for c in 'abc' %}{{ c }}.{% endfor %}",
    "{% for k in {'a': 1} %}{{ k }}{% endfor %}",
    "{% for i in nothing %}x{% endfor %}y",
    "{% for i in 5 %}x{% endfor %}y",
    "{% for i in none %}x{% endfor %}y",
    "{% if 0 %}a{% elif '' %}b{% elif [1] %}c{% else %}d{% endif %}",
    "{% if x is defined and x %}a{% else %}b{% endif %}",
    "{% macro f(a, b='x') %}{{ a }}-{{ b }}{% endmacro %}{{ f(1) }} {{ f(1, 2) }} {{ f(b=3, a=4) }} {{ f() }}",
    "{% macro f(n) %}{% if n > 0 %}{{ n }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}",
    "{% set y = 5 %}{% macro f() %}{{ y }}{% set y = 6 %}{{ y }}{% endmacro %}{{ f() }}{{ y }}",
    "{% for i in [1] %}{% macro f() %}[{{ loop }}]{% endmacro %}{{ f() }}{% endfor %}",
    "{% macro f() %}{% for m in messages %}{{ loop.index }}{% endfor %}{% endmacro %}{{ f() | length }}",
    "{% macro f(a) %}x{% endmacro %}{{ f(1, 2) }}",
    "{{ messages | tojson }}",
    "{{ messages }}",
    "{{ messages[1] }}",
    "{% include 'x' %}",
    "{% nosuch %}",
    "{% if true %}",
    "{% endif %}",
    "{% for m in messages %}{% endif %}",
    "{{ 'a' }",
    "{# open",
    "{% break %}",
    "}} %} #}",
    "{ { a } } {a} {",
    "{{'a'}}{{-'b'-}} c",
    "\n{% if true %}\n\n{% endif %}\n\nx\n",
    "{% if true -%}\n  a\n{%- endif %} b",
    "a\r\nb\r\n{% if true %}\r\nc{% endif %}\r\n",
    "{%- set system = messages[0].content if messages[0].role == 'system' else 'none' -%}\n"
    "{{ bos_token }}{{ system | trim }}\n"
    "{%- for m in messages if m.role != 'system' %}\n"
    "    {%- if m.role == 'user' %}\n"
    "        {{- '<|user|>\\n' + m.content + eos_token }}\n"
    "    {%- elif m['role'] == 'assistant' %}\n"
    "        {%- set text = m.content.split('</think>')[-1].lstrip('\\n') %}\n"
    "        {{- '<|assistant|>\\n' ~ text ~ eos_token }}\n"
    "    {%- else %}\n"
    "        {{- raise_exception('unknown role ' + m.role) }}\n"
    "    {%- endif %}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n    {{- '<|assistant|>\\n' }}\n{%- endif %}\n",
    "{% set ns = namespace(found=false, last=-1) %}{% for m in messages %}{% if m.role == 'user' %}"
    "{% set ns.found = true %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}{{ ns.found }}{{ ns.last }}",
    "{% if (messages[0].role == 'user') != (messages | length % 2 == 0) %}{{ raise_exception('order') }}{% endif %}ok",
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}",
    "{% for m in messages[::-1] %}{{ m.role[0] | upper }}{% endfor %}",
    "{{ '' if messages[0].tool_calls is not defined else 'tools' }}{{ 'x' if messages[0].tool_calls }}",
    "{% if tools %}a{% endif %}{% if not tools is defined %}b{% endif %}{% if tools is not none %}c{% endif %}",
]


def main():
    env = environment()
    sources = ["[{{ " + e + " }}]" for e in EXPRESSIONS] + TEMPLATES
    cases = [{"template": s, "text": rendered(env, s)} for s in sources]
    print(json.dumps({"messages": MESSAGES, "cases": cases}, ensure_ascii=False, indent=1))


main()
