# tputtui on vLLM's official image: its vLLM, torch and CUDA stay as they are.
#   docker build -t tputtui .
#   docker run -it --rm --gpus all tputtui MODEL
ARG VLLM=v0.32.0
FROM python:3.11-slim AS wheel
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY profiles ./profiles
COPY tputtui ./tputtui
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /dist .

FROM vllm/vllm-openai:${VLLM}
COPY --from=wheel /dist /dist
# What tputtui depends on names neither vLLM nor torch, so pip leaves those as they are.
RUN python3 -m pip install --no-cache-dir /dist/*.whl "optuna>=5.0" && rm -rf /dist
ENTRYPOINT ["tputtui"]
