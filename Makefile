# Every target prepares what it needs: `make demo` and `make test` work on a fresh clone.

SHELL := /bin/bash
PYTHON ?= $(firstword $(foreach p,python3.11 python3 python3.12 python3.13,$(shell \
	$(p) -c 'import sys; sys.version_info >= (3, 11) and print("$(p)")' 2>/dev/null)))
BIN := .venv/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt

# The real data of the claims and benchmarks, where a checkout has it; tests pass without it.
ifneq ($(wildcard ../shared/data),)
export TOKENSPACE_DATA ?= $(abspath ../shared/data)
endif

.PHONY: demo setup peers check test claims bench docs new clean

demo: .venv/.base  ## build a space from Python's own documentation and ask it three questions
	@test -f space/report.html || $(BIN)/tokenspace build --out space
	@for question in "how do I make a class iterable" \
	                 "wait for several threads to finish" \
	                 "read a file line by line"; do \
	    printf '\n$$ tokenspace search space "%s"\n' "$$question"; \
	    $(BIN)/tokenspace search space "$$question" -k 3 || exit; \
	done
	@printf '\nThe report: %s\n' "$(CURDIR)/space/report.html"

setup: .venv/.dev  ## .venv with the package and everything that development needs

peers: .venv/.peers $(foreach p,mergekit wechsel deepfocus transtokenizers fastplaid pylate fasttext glove model2vec pretense angle defsentplus wefe mteb langchain,.peers/$(p)/.done)  ## the libraries that benchmarks compare with

check: .venv/.dev  ## lint, formatting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: .venv/.dev  ## the whole default suite
	$(BIN)/python -m pytest -n 2

claims: .venv/.dev  ## measure every claim again and record the results
	$(BIN)/tokenspace reproduce --all --record

bench: peers  ## every benchmark against its peers, recorded
	@for script in $(filter-out benchmarks/harness.py,$(wildcard benchmarks/*.py)); do \
	    echo "$$script"; $(BIN)/python "$$script" --record || exit; \
	done

docs: .venv/.dev  ## the documentation site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html"

new: .venv/.dev  ## the files of a new method: make new FAMILY=words NAME=glove
	@$(BIN)/python scripts/new.py "$(FAMILY)" "$(NAME)"

clean:  ## remove what the targets above made, except .venv and .peers
	rm -rf space site docs/methods docs/reference .pytest_cache .mypy_cache .ruff_cache

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; found: $$(python3 --version 2>&1)." \
	    "Give one with: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv .venv

.venv/.base: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing tokenspace into .venv (about half a minute) ..."
	@$(PIP) -e .
	@touch $@

.venv/.dev: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing tokenspace with its development tools into .venv (a few minutes) ..."
	@$(PIP) -e '.[dev]'
	@touch .venv/.base $@

.venv/.peers: pyproject.toml constraints.txt | .venv/.dev
	@echo "Installing the libraries that benchmarks compare with ..."
	@$(PIP) -e '.[dev,peers]'
	@touch .venv/.base .venv/.dev $@

# mergekit pins other versions than we do, so it lives in an environment of its own.
.peers/mergekit/.done: | .venv/bin/python
	@echo "Installing mergekit into .peers/mergekit ..."
	@test -x .peers/mergekit/bin/python || $(BIN)/python -m venv .peers/mergekit
	@.peers/mergekit/bin/python -m pip install -qq --disable-pip-version-check \
	    torch==2.13.0 mergekit==0.1.5 threadpoolctl
	@touch $@

# Both need fastText's own package, which is compiled here.
.peers/wechsel/.done: | .venv/bin/python
	@echo "Installing wechsel into .peers/wechsel ..."
	@test -x .peers/wechsel/bin/python || $(BIN)/python -m venv .peers/wechsel
	@.peers/wechsel/bin/python -m pip install -qq --disable-pip-version-check wechsel==0.0.4
	@touch $@

.peers/deepfocus/.done: | .venv/bin/python
	@echo "Installing deepfocus into .peers/deepfocus ..."
	@test -x .peers/deepfocus/bin/python || $(BIN)/python -m venv .peers/deepfocus
	@.peers/deepfocus/bin/python -m pip install -qq --disable-pip-version-check \
	    torch==2.13.0 deepfocus==1.0.1
	@touch $@

.peers/transtokenizers/.done: | .venv/bin/python
	@echo "Installing trans-tokenizers into .peers/transtokenizers ..."
	@test -x .peers/transtokenizers/bin/python || $(BIN)/python -m venv .peers/transtokenizers
	@.peers/transtokenizers/bin/python -m pip install -qq --disable-pip-version-check \
	    torch==2.13.0 transformers==5.24.0 trans-tokenizers==0.1.4
	@touch $@

# fast-plaid pins the torch that it was compiled against, and PyLate an older fast-plaid.
.peers/fastplaid/.done: | .venv/bin/python
	@echo "Installing fast-plaid into .peers/fastplaid ..."
	@test -x .peers/fastplaid/bin/python || $(BIN)/python -m venv .peers/fastplaid
	@.peers/fastplaid/bin/python -m pip install -qq --disable-pip-version-check \
	    fast-plaid==1.7.0.2110
	@touch $@

.peers/pylate/.done: | .venv/bin/python
	@echo "Installing PyLate into .peers/pylate ..."
	@test -x .peers/pylate/bin/python || $(BIN)/python -m venv .peers/pylate
	@.peers/pylate/bin/python -m pip install -qq --disable-pip-version-check pylate==1.6.0
	@touch $@

.peers/model2vec/.done: | .venv/bin/python
	@echo "Installing model2vec into .peers/model2vec ..."
	@test -x .peers/model2vec/bin/python || $(BIN)/python -m venv .peers/model2vec
	@.peers/model2vec/bin/python -m pip install -qq --disable-pip-version-check \
	    torch==2.13.0 'model2vec[distill,quantization]==0.10.0'
	@touch $@

.peers/wefe/.done: | .venv/bin/python
	@echo "Installing WEFE into .peers/wefe ..."
	@test -x .peers/wefe/bin/python || $(BIN)/python -m venv .peers/wefe
	@.peers/wefe/bin/python -m pip install -qq --disable-pip-version-check wefe==1.0.1
	@touch $@

# An environment that sees the packages of .venv, torch and sentence-transformers among them.
define beside
@set -e; test -x $(1)/bin/python || $(BIN)/python -m venv $(1); \
    where='import sysconfig; print(sysconfig.get_path("purelib"))'; \
    $(BIN)/python -c "$$where" > "$$($(1)/bin/python -c "$$where")/tokenspace-venv.pth"
endef

.peers/mteb/.done: constraints.txt | .venv/.dev
	@echo "Installing mteb into .peers/mteb ..."
	$(call beside,.peers/mteb)
	@.peers/mteb/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt \
	    mteb==2.26.24
	@touch $@

.peers/langchain/.done: constraints.txt | .venv/.dev
	@echo "Installing LangChain into .peers/langchain ..."
	$(call beside,.peers/langchain)
	@.peers/langchain/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt \
	    langchain-huggingface==1.2.3
	@touch $@

# DefSent+ is published as scripts without a licence: it is fetched there and run there, no more.
DEFSENTPLUS ?= https://github.com/ryuliuxiaodong/DefSent-Plus
.peers/defsentplus/.done: | .venv/.dev
	@echo "Fetching DefSent+ into .peers/defsentplus ..."
	$(call beside,.peers/defsentplus)
	@rm -rf .peers/defsentplus/src
	@if git clone -q "$(DEFSENTPLUS)" .peers/defsentplus/src && \
	    git -C .peers/defsentplus/src checkout -q 18785dd40225984f42944116c44d5b271cde0b94; \
	then touch $@; \
	else echo "DefSent+ is left out: it needs git and $(DEFSENTPLUS)" >&2; rm -rf .peers/defsentplus; fi

# AnglE wants an older transformers.
.peers/angle/.done: | .venv/bin/python
	@echo "Installing AnglE into .peers/angle ..."
	@test -x .peers/angle/bin/python || $(BIN)/python -m venv .peers/angle
	@.peers/angle/bin/python -m pip install -qq --disable-pip-version-check \
	    torch==2.13.0 angle-emb==0.6.1
	@touch $@

.peers/pretense/.done: | .venv/bin/python
	@echo "Installing pretense into .peers/pretense ..."
	@test -x .peers/pretense/bin/python || $(BIN)/python -m venv .peers/pretense
	@.peers/pretense/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt \
	    pretense==0.1.1
	@touch $@

# fastText's wheel was compiled against numpy 1.
.peers/fasttext/.done: | .venv/bin/python
	@echo "Installing fastText, floret and gensim into .peers/fasttext ..."
	@test -x .peers/fasttext/bin/python || $(BIN)/python -m venv .peers/fasttext
	@.peers/fasttext/bin/python -m pip install -qq --disable-pip-version-check \
	    fasttext-wheel==0.9.2 floret==0.10.5 gensim==4.4.0 'numpy<2'
	@touch $@

# GloVe is four C programs without releases: one commit, built by its own Makefile. Its repository
# has to be within reach, or a copy of it: make .peers/glove/.done GLOVE=/path/to/GloVe
GLOVE ?= https://github.com/stanfordnlp/GloVe

.peers/glove/.done:
	@echo "Building GloVe in .peers/glove ..."
	@rm -rf .peers/glove
	@if git clone -q "$(GLOVE)" .peers/glove/src && \
	    git -C .peers/glove/src checkout -q 52f7dbc512be3f72e9c11e7cbb19dfdfa4651e9c && \
	    $(MAKE) -s -C .peers/glove/src; then touch $@; \
	else echo "GloVe is left out: it needs git, gcc, make and $(GLOVE)" >&2; rm -rf .peers/glove; fi
