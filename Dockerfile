# syntax=docker/dockerfile:1
# The demos in a container.
#   CPU:   docker build -t bind2gen . && docker run --rm -p 7860:7860 bind2gen
#   CUDA:  docker build --build-arg DEVICE=cuda -t bind2gen-cuda . && docker run --rm --gpus all -p 7860:7860 bind2gen-cuda
# Another model: docker run ... bind2gen --model OWNER/NAME (mount a volume at /home/bind2gen/.cache to keep downloads).

ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
# cpu: wheels of about 0.2 GB from PyTorch's own index. cuda: those of PyPI, about 3 GB, which bring their CUDA along.
ARG DEVICE=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
RUN python -m venv /opt/bind2gen
ENV PATH=/opt/bind2gen/bin:$PATH
WORKDIR /src
# First what changes seldom: without a change in the pins, this layer is taken from the cache.
COPY constraints.txt ./
RUN case "$DEVICE" in \
      cpu) torch_index=https://download.pytorch.org/whl/cpu ;; \
      cuda) torch_index=https://pypi.org/simple ;; \
      *) echo "DEVICE: wanted cpu or cuda, got $DEVICE" >&2; exit 1 ;; \
    esac \
 && pip install --index-url "$torch_index" --extra-index-url https://pypi.org/simple -c constraints.txt \
      torch torchvision torchaudio
COPY pyproject.toml README.md LICENSE ./
COPY bind2gen bind2gen
COPY demos demos
COPY adapters/mini adapters/mini
RUN pip install -c constraints.txt ".[demos]"

FROM python:${PYTHON}-slim
RUN useradd --create-home --uid 1000 bind2gen
COPY --from=build /opt/bind2gen /opt/bind2gen
# HF_HUB_OFFLINE is not set: --model may name a repository. Uploads go to /tmp and are deleted.
ENV PATH=/opt/bind2gen/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    GRADIO_SERVER_NAME=0.0.0.0 GRADIO_SERVER_PORT=7860
USER bind2gen
WORKDIR /home/bind2gen
EXPOSE 7860
# Asks the server itself for its page; loading and warming the model takes up to a minute on a slow machine.
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['GRADIO_SERVER_PORT'] + '/gradio_api/startup-events', timeout=8)"]
# SIGTERM, which docker stop sends, ends it properly.
STOPSIGNAL SIGTERM
ENTRYPOINT ["bind2gen", "demo", "--quiet"]
