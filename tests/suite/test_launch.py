"""Colab, Binder and conda: every chapter's links have the right form and lead to a notebook that exists."""

import re
import tomllib
from types import SimpleNamespace

import pytest
import yaml
from jupyter_book.config import get_final_config
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from sphinx_book_theme.header_buttons import update_context_with_repository_info
from sphinx_book_theme.header_buttons.launch import add_launch_buttons

from reprise.suite.execution import read_source, written
from reprise.suite.house import PACKAGE, House, repository_url
from reprise.suite.pages import _set_address
from reprise.suite.pages.page import docname

HERE = House(PACKAGE.parents[1])
WRITTEN = written(HERE)
PROJECT = tomllib.loads((HERE.root / "pyproject.toml").read_text())["project"]


class Config(dict):
    """Sphinx's configuration, read by attribute or by name."""

    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__


@pytest.fixture(scope="module")
def app():
    """What the theme asks of Sphinx, made from _config.yml and pyproject.toml as in a build."""
    options, _ = get_final_config(
        user_yaml=HERE.root / "_config.yml", sourcedir=HERE.root, cli_config={"latex_individualpages": False}
    )
    config = Config({"html_baseurl": "", "html_context": {}} | options)
    made = SimpleNamespace(config=config, confdir=HERE.root, outdir=HERE.build, builder=None)
    _set_address(made, config)
    update_context_with_repository_info(made)
    made.env = SimpleNamespace(doc2path=lambda name: f"{name}.ipynb", metadata={})
    return made


def links(app, page: str) -> dict[str, str]:
    """The launch links of one page, by their names."""
    app.env.metadata[page] = {"kernelspec": {}}
    context = app.config.html_context | {"pagename": page, "sourcename": f"{page}.ipynb", "header_buttons": []}
    add_launch_buttons(app, page, "page.html", context, None)
    return {button["text"]: button["url"] for group in context["header_buttons"] for button in group["buttons"]}


@pytest.mark.parametrize("slug", WRITTEN)
def test_colab_and_binder_open_the_notebook_of_the_one_address(app, slug):
    page = docname(WRITTEN[slug])
    owner, name = repository_url().split("/")[-2:]
    assert links(app, page) == {
        "Colab": f"https://colab.research.google.com/github/{owner}/{name}/blob/main/{page}.ipynb",
        "Binder": f"https://mybinder.org/v2/gh/{owner}/{name}/main?urlpath=lab/tree/{page}.ipynb",
    }
    assert (HERE.root / f"{page}.ipynb").is_file()


@pytest.mark.parametrize("slug", WRITTEN)
def test_one_word_in_one_cell_sets_profile_and_device(slug):
    cells = [cell for cell in read_source(HERE, WRITTEN[slug]).cells if cell.cell_type == "code"]
    assert cells[0].metadata["reprise_setup"]
    (parameters,) = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    code = "\n".join(cell.source for cell in cells)
    for name, value in (("profile", "quick"), ("device", "auto")):
        assert re.findall(rf'^{name} = "(\w+)"', code, flags=re.M) == [value]
        assert f'{name} = "{value}"' in parameters.source
    assert re.search(r"\bbegin\([^)]*\bprofile\b[^)]*\bdevice\b", code)  # and both reach it


# --- environment.yml, which Binder and conda read ---------------------------------------------------------------------

ENVIRONMENT = yaml.safe_load((HERE.root / "environment.yml").read_text())
CONDA = [
    Requirement(re.sub(r"(?<![=<>])=(?!=)", "==", entry))  # conda writes one sign where pip writes two
    for entry in ENVIRONMENT["dependencies"]
    if isinstance(entry, str)
]
NAMES = {"pytorch-cpu": "torch", "matplotlib-base": "matplotlib"}  # conda-forge's name -> the distribution in it


def test_binder_installs_this_folder_and_with_it_all_that_the_library_needs():
    (pip,) = [entry["pip"] for entry in ENVIRONMENT["dependencies"] if isinstance(entry, dict)]
    assert pip == ["-e ."]


def test_binder_gets_torch_without_gpu_libraries_before_pip_looks_for_it():
    """pip's own torch for Linux brings gigabytes of CUDA, which no Binder has use or room for."""
    assert "pytorch-cpu" in {requirement.name for requirement in CONDA}


def test_binders_python_is_one_that_the_library_takes():
    (python,) = [requirement.specifier for requirement in CONDA if requirement.name == "python"]
    (version,) = [specifier.version for specifier in python]
    assert SpecifierSet(PROJECT["requires-python"]).contains(version)


def test_what_conda_installs_is_what_the_library_declares():
    declared = {(r := Requirement(text)).name: r.specifier for text in PROJECT["dependencies"]}
    extra = {"python", "pip", "jupyterlab"}
    for requirement in CONDA:
        name = NAMES.get(requirement.name, requirement.name)
        if name not in extra:
            assert name in declared, f"environment.yml installs {name}, which the library does not ask for"
            for specifier in requirement.specifier:
                assert declared[name].contains(specifier.version)
