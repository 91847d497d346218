# Scoring without torch: docker build -t flr . && docker run --rm -v "$PWD:/data" flr score bundle histories.csv --out recs.csv
FROM python:3.12-slim
WORKDIR /flr
COPY pyproject.toml README.md LICENSE ./
COPY flr flr/
COPY flr_cli flr_cli/
COPY flr_model flr_model/
COPY export export/
RUN pip install --no-cache-dir ".[cpu]" && rm -rf /flr
WORKDIR /data
ENTRYPOINT ["flr"]
CMD ["--help"]
