"""tools/qemu.py, the emulated board: complaints are one sentence. Building and running it is `make test-emulated`."""

import pytest

import qemu


@pytest.mark.parametrize("words", [["--test"], ["--heap", "110"]])
def test_qemu_when_programs_are_missing_then_what_to_install(words, monkeypatch, capsys):
    monkeypatch.setattr(qemu.shutil, "which", lambda program: None if program.startswith("arm") else program)
    assert qemu.main(words) == 1
    sentence = "a board cannot be emulated before: apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi"
    assert capsys.readouterr().out.strip() == sentence


def test_emulator_when_it_ends_at_once_then_what_it_said(tmp_path, monkeypatch, capsys):
    program = tmp_path / "qemu-system-arm"
    program.write_text("#!/bin/sh\necho no such machine\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(qemu, "build", lambda heap_kb: tmp_path / "firmware.elf")
    assert qemu.main(["--test"]) == 1
    assert capsys.readouterr().out.strip() == "the emulator does not start: no such machine"
