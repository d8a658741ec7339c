"""The second bundle, `covid-course`: will (or does) the patient need intensive care in this stay, from the series of radiographs, the days
between them, and laboratory values. On the COVID-19 image repository of Hannover Medical School (Winther et al., CC BY 3.0).
"""
