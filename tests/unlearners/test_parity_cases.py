"""The parity cases are complete, and each says where it comes from."""

from tests.unlearners.parity import CASES, read_case

FILES = sorted(path.name.removesuffix("_open.npz") for path in CASES.glob("*.npz"))


def test_the_readme_names_the_source_of_every_case():
    rows = [
        line.split("|") for line in (CASES / "README.md").read_text().splitlines() if "` |" in line
    ]
    sources = {
        name: row[2] for row in rows for name in row[1].replace("`", "").replace(" ", "").split(",")
    }
    assert sorted(sources) == FILES
    for name in FILES:
        _, meta = read_case(name)
        repository = meta["source"].split()[0]
        if "/" in repository:
            assert repository in sources[name]
            assert meta["source"].split(" @ ")[1].split()[0] in sources[name]
