-- mimic_echo.csv from record_list.csv (MIMIC-IV-ECG) and structured_measurement.csv (MIMIC-IV-ECHO).
-- Each ECG with the nearest echocardiogram study that follows within 365 days. Runs in SQLite:
--
--   sqlite3 :memory: -csv -header ".import record_list.csv record_list" \
--     ".import structured_measurement.csv structured_measurement" ".read mimic_echo.sql" > mimic_echo.csv
--
-- A result that is no number above 0 becomes an empty cell, and an empty cell stays empty: an ECG whose study has no tricuspid jet is unknown, not negative.
WITH echo AS (
  SELECT
    subject_id,
    julianday(measurement_datetime) AS day,
    MAX(CASE WHEN measurement = 'tr_velocity' AND CAST(result AS REAL) > 0 THEN CAST(result AS REAL) END) AS tr_velocity,
    MAX(CASE WHEN measurement = 'tr_mmhg' AND CAST(result AS REAL) > 0 THEN CAST(result AS REAL) END) AS tr_mmhg
  FROM structured_measurement
  WHERE test_type = 'TTE'
  GROUP BY subject_id, measurement_datetime
),
paired AS (
  SELECT
    ecg.subject_id,
    ecg.study_id,
    ecg.path,
    echo.tr_velocity,
    echo.tr_mmhg,
    echo.day - julianday(ecg.ecg_time) AS days_to_echo,
    ROW_NUMBER() OVER (PARTITION BY ecg.study_id ORDER BY echo.day) AS nearest
  FROM record_list AS ecg
  JOIN echo ON echo.subject_id = ecg.subject_id
  WHERE echo.day - julianday(ecg.ecg_time) BETWEEN 0 AND 365
)
SELECT study_id, subject_id, path, ROUND(days_to_echo, 3) AS days_to_echo, tr_velocity, tr_mmhg
FROM paired
WHERE nearest = 1
ORDER BY subject_id, study_id;
