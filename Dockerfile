# syntax=docker/dockerfile:1
# medfusion as a container.
#   docker build --target cpu  -t medfusion .
#   docker build --target cuda -t medfusion:cuda .
#   docker run --read-only --tmpfs /tmp -v medfusion:/var/lib/medfusion -e MEDFUSION_HTTP_EXPOSE=open -p 127.0.0.1:8080:8080 medfusion
# Non-root, read-only root file system, state in the volume /var/lib/medfusion (its folder payloads may be another volume, of many containers).
#
# Both targets build and run on Debian 12, the system that is tested; the CUDA one takes the toolkit and the
# run-time libraries out of NVIDIA's images. Package versions are the distribution's (one release, security updates wanted).

ARG CUDA_IMAGE=nvidia/cuda:13.0.1-cudnn

FROM debian:12-slim AS toolchain
COPY deploy/packages /tmp/packages
RUN /tmp/packages build && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /tmp/packages
WORKDIR /src

FROM toolchain AS build-cpu
COPY . .
RUN cmake --preset release -DMEDFUSION_TESTS=OFF && cmake --build --preset release && \
    DESTDIR=/install cmake --install build/release --prefix /usr --strip

FROM ${CUDA_IMAGE}-devel-ubuntu22.04 AS cuda-toolkit

FROM toolchain AS build-cuda
COPY --from=cuda-toolkit /usr/local/cuda/ /usr/local/cuda/
COPY --from=cuda-toolkit /usr/include/cudnn*.h /usr/include/
COPY --from=cuda-toolkit /usr/lib/x86_64-linux-gnu/libcudnn* /usr/lib/x86_64-linux-gnu/
COPY . .
RUN PATH=/usr/local/cuda/bin:$PATH cmake --preset release -DMEDFUSION_TESTS=OFF && cmake --build --preset release && \
    DESTDIR=/install cmake --install build/release --prefix /usr --strip

FROM debian:12-slim AS runtime
COPY deploy/packages /tmp/packages
RUN /tmp/packages run && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /tmp/packages && \
    useradd --system --uid 10001 --user-group --home-dir /var/lib/medfusion --create-home --shell /usr/sbin/nologin medfusion && \
    install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/medfusion /var/lib/medfusion/payloads
ENV MEDFUSION_HTTP_LISTEN=0.0.0.0:8080 \
    MEDFUSION_DATA_DIRECTORY=/var/lib/medfusion \
    MEDFUSION_MODELS_DIRECTORIES=/usr/share/medfusion/models/thorax-nih
VOLUME /var/lib/medfusion
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=3s --start-period=20s --retries=3 \
    CMD ["curl", "--fail", "--silent", "--show-error", "--output", "/dev/null", "http://127.0.0.1:8080/v2/health/ready"]
ENTRYPOINT ["/usr/bin/medfusion"]
CMD ["serve"]

FROM ${CUDA_IMAGE}-runtime-ubuntu22.04 AS cuda-libraries

FROM runtime AS cuda
COPY --from=cuda-libraries /usr/local/cuda/lib64/ /usr/local/cuda/lib64/
COPY --from=cuda-libraries /usr/lib/x86_64-linux-gnu/libcudnn* /usr/lib/x86_64-linux-gnu/
COPY --from=build-cuda /install/ /
ENV LD_LIBRARY_PATH=/usr/local/cuda/lib64 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001

FROM runtime AS cpu
COPY --from=build-cpu /install/ /
USER 10001:10001
