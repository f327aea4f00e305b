"""A sample of tests/host/mutation.py: the portable tests notice a broken rule of each kind."""

import mutation

SAMPLE = (
    "the wait doubles",
    "NSTART is per peer",
    "the duplicate of a write",
    "4.06",
    "errors of sendto",
)


def test_broken_rules_are_noticed():
    chosen = [mutant for mutant in mutation.MUTANTS if mutant[0] in SAMPLE]
    assert len(chosen) == len(SAMPLE)
    assert mutation.survivors(chosen) == []


def test_every_mutant_fits_the_source_and_has_a_name_of_its_own():
    names = []
    for file, mutants in mutation.BY_FILE.items():
        source = (mutation.ROOT / "lib" / file).read_text()
        for mutant in mutants:
            assert mutation.mutate(source, mutant) != source
            names.append(mutant[0])
    assert len(set(names)) == len(names)


def test_words_that_no_rule_has_are_an_error(capsys):
    assert mutation.main(["no such rule"]) == 2
    assert capsys.readouterr().out == "no rule has such a word in its name\n"
