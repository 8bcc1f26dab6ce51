# The images without ko: make release, then
#
#   docker buildx build --platform linux/amd64,linux/arm64 --target autoburst .
#   docker buildx build --platform linux/amd64,linux/arm64 --target autoburst-vnode .
#
# The base has CA certificates and a user who is nobody, and no shell.
FROM gcr.io/distroless/static-debian12:nonroot AS base
USER 65532:65532

FROM base AS autoburst-vnode
ARG TARGETARCH
COPY --chmod=0755 bin/dist/autoburst-vnode_linux_${TARGETARCH} /usr/local/bin/autoburst-vnode
ENTRYPOINT ["/usr/local/bin/autoburst-vnode"]

# Hooks and tests of the chart run the plugin from the controller's image.
FROM base AS autoburst
ARG TARGETARCH
COPY --chmod=0755 bin/dist/kubectl-autoburst_linux_${TARGETARCH} /usr/local/bin/kubectl-autoburst
COPY --chmod=0755 bin/dist/autoburst_linux_${TARGETARCH} /usr/local/bin/autoburst
ENTRYPOINT ["/usr/local/bin/autoburst"]
