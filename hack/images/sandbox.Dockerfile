# podwright-sandbox-default: the sandbox image of an AgentEnvironment that names none. A plain Debian with
# what most repositories need to be searched, built and tested; commands run in it under a user of their
# own without root, so what a project needs beyond this belongs into an image of the project's.
ARG BASE_IMAGE=docker.io/library/debian:bookworm-slim
FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="podwright-sandbox-default" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY sandbox.packages /usr/share/podwright/sandbox.packages
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive xargs -a /usr/share/podwright/sandbox.packages apt-get install -y --no-install-recommends \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb \
    # One version of the interpreter under both names, as most projects' scripts expect.
    && ln -s python3 /usr/bin/python
ENV LANG=C.UTF-8
