"""Several modules as one script do what they do apart."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from sluice.console.page import assets
from sluice.console.page.bundle import bundled

MODULES = {
    "a/main.js": """
import { one, two as second } from "./sub/names.js";
import made from"../b/minified.js";import{x as ten,y}from"../b/minified.js";
import { seen, see } from "./state.js";
const one_more = 1;
see();
console.log([one, second(), made(), ten, y, seen.times, one_more].join(" "));
""",
    "a/sub/names.js": """
import { see } from "../state.js";
export const one = "one";
export async function later() {}
export class Two {}
function hidden() { return new Two() instanceof Two ? "two" : "none"; }
see();
export { hidden as two, one as first };
""",
    "a/state.js": """
const one = 0;
export const seen = { times: one };
export function see() { seen.times += 1; }
""",
    "b/minified.js": """const a=10,b=9;export default function(){return"made"}export{a as x,b as y};
//# sourceMappingURL=minified.js.map
""",
    "never.js": "throw new Error();",
}


def said_by(script: str, tmp_path: Path) -> str:
    node = shutil.which("node")
    assert node, "install Node.js: it runs the scripts of the page"
    (tmp_path / "script.mjs").write_text(script)
    command = [node, str(tmp_path / "script.mjs")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_each_module_has_its_own_names_and_runs_once_after_those_that_it_imports(tmp_path: Path) -> None:
    script = bundled(MODULES, "a/main.js")
    assert said_by(script, tmp_path) == "one two made 10 9 2 1"
    assert "sourceMappingURL" not in script


def test_modules_that_import_each_other_are_refused() -> None:
    modules = {"a.js": 'import { b } from "./b.js";', "b.js": 'import { a } from "./a.js";'}
    with pytest.raises(ValueError, match=r"^a\.js imports itself by way of others$"):
        bundled(modules, "a.js")


def test_a_module_that_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError, match=r"b\.js"):
        bundled({"a.js": 'import { b } from "./b.js";'}, "a.js")


def test_numbers_are_written_as_a_browser_writes_them_in_english(tmp_path: Path) -> None:
    text = (Path(assets.__file__).parent / "app" / "text.js").read_text()
    compared = """
const whole = new Intl.NumberFormat("en"), tenths = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const values = [0, 1, -1, 9.94, 999, 999.96, 1000, 12345, 123456.789, 1e6, -1234567, 0.04, 0.25, 1234.5678, "12"];
const otherwise = (one) => number(one) !== whole.format(one) || decimal(one) !== tenths.format(one);
console.log(JSON.stringify(values.filter(otherwise)));
console.log(number(null), decimal(undefined), size(1536), size(0));
"""
    assert said_by(text + compared, tmp_path).splitlines() == ["[]", "\u2013 \u2013 1.5 KiB 0 B"]
