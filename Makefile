# Thin: each recipe calls a script in hack/, which says what it does and can be run by itself.

CARGO ?= cargo
# local: the cluster of `make cluster-up`; current: the one that kubectl points to.
CLUSTER ?= local
# How long `make properties` takes for each test, and `make search` in all.
SECONDS ?= 60
# A registry to push the images to, for example registry.example.com/team.
PUSH ?=
export CARGO CLUSTER

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Run two tasks with a scripted model on a real cluster (CLUSTER=current: on yours)
	@hack/demo/run

.PHONY: test
test: ## Check and test everything: units, the real API server, the real kubelet
	@hack/test

.PHONY: differential
differential: ## Compare our agent with the reference agent, at length (tests/agent/differential)
	@hack/differential

.PHONY: properties
properties: ## Give each property test generated inputs for SECONDS (60) seconds
	@hack/properties $(SECONDS)

.PHONY: search
search: ## Search lives by chance for broken promises, for SECONDS (60) seconds (docs/reliability.md)
	@hack/search $(SECONDS)

.PHONY: mutants
mutants: ## Take safeguards away, one at a time, and show that a test notices each
	@hack/mutants

.PHONY: lint
lint: ## Check format, lints, scripts, the chart and the generated definitions
	@hack/lint

.PHONY: security
security: ## Make every attempt of docs/security.md, and print them by class
	@hack/security

.PHONY: deny
deny: ## Hold the dependencies to deny.toml: advisories, licenses, bans, sources
	@hack/deny

.PHONY: sbom
sbom: ## Write what the two programs are made of, as CycloneDX, to target/podwright.cdx.json
	@hack/sbom

.PHONY: crds
crds: ## Write the CustomResourceDefinitions that the types say
	@hack/crds

.PHONY: build
build: ## Compile podwright, podwright-parent and podwright-sandboxd
	@hack/image compile podwright

.PHONY: image
image: ## Build the images; PUSH=REGISTRY builds them for production and pushes them there
	@$(if $(PUSH),hack/image push $(PUSH),hack/image build sandbox && hack/image build podwright)

.PHONY: cluster-up
cluster-up: ## Start the local cluster
	@hack/cluster up

.PHONY: cluster-down
cluster-down: ## Stop the local cluster and remove what it left on the machine
	@hack/cluster down

.PHONY: live
live: ## Run three tasks against a real model and record them (PROVIDER=provider.yaml KEY_FILE=key.txt)
	@hack/live

.PHONY: bench
bench: ## Measure what docs/performance.md shows, and write it there (needs a quiet machine)
	@hack/bench
